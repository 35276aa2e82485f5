// Package effects holds what a transition asks a host to do, the EffectHandler that does it, and the fake handler of the
// tests. It is pure: no I/O, no clock reading, no goroutine. The real handler is in effects/host.
package effects
