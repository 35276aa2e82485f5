// Package bustest holds what stands in for the bus where there is no NATS server: Memory, a model of one, for tests of the
// supervisor and of the executor and for the simulation, and Conformance, the suite that the model and package bus pass
// both, so that the model cannot drift from the server.
package bustest
