// Package reducer decides. Reduce folds one event into the state of a program and says which effects follow; Replay does so
// for a whole log. It is pure and total: no I/O, no clock, no randomness, no map is iterated, no event makes it panic, and the
// same log gives the same states everywhere and for ever.
//
// The behaviour is readable in testdata/*.txt, one trace a file.
package reducer
