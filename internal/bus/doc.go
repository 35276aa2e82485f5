// Package bus is Hersh on NATS JetStream: the streams, queues and buckets that DESIGN section 2 lists, behind methods that
// speak of programs. It is the only adapter that knows JetStream.
//
//	log.go          a program's events: create, append, read
//	layout.go       which stream holds a program, so that other layouts are one more implementation
//	queues.go       wake-ups and effects: at-least-once work, acknowledged after it is done
//	checkpoints.go  the read model
//	hosts.go        heartbeats
//	lease.go        which supervisor sweeps
//	sources.go      source tarballs
//	output.go       what builds and programs print
//
// Every name is built in package events.
package bus
