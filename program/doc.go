// Package program runs one program in one process: an event loop around Reduce and an EffectHandler, without a bus and
// without a log. It is the smallest way to use Hersh, and what examples/lifecycle shows; services use internal/supervisor and
// internal/executor instead.
//
// A Program is in one of three phases:
//
//	made     NewProgram; events wait in the queue
//	running  Start; events are folded one after the other, each with everything that follows from it
//	stopped  the context of Start ended; SendEvent returns ErrProgramStopped, and the state stays what it was last
//
// An event's effects are run before the next event is looked at, so a stop that is sent during a build waits for the build
// and the start behind it. A result never goes through the queue: it is folded at once, so that a full queue cannot block the
// loop that empties it.
//
// What goes wrong, and what happens: an effect that fails has a result which says so, and the state becomes Error; an effect
// that could not be tried (the handler returns nil) is tried again with a growing delay until the context ends; an effect that
// the context cut short has no result, and the state keeps saying what the program was waiting for.
package program
