// Package events holds the vocabulary of Hersh: identifiers, the events of a program, their JSON form, and the names of
// every subject, stream and bucket. It is pure: no I/O, no clock, no goroutine.
//
// An event is a Go struct here and a JSON object on the wire; its type is the last token of its subject. docs/events.md is
// the wire reference.
package events
