// Package hersh holds no code: it is the root of the module, and its tests check what concerns all of it.
//
// Hersh runs people's programs. A program is a source folder with a Dockerfile; Hersh builds it, runs it in a sandbox on one
// of many Docker hosts, and keeps every fact about it as an event in a NATS JetStream log that can be replayed years later.
//
// Begin with package events (what may happen), reducer (what it amounts to) and effects (what is to be done about it).
// Package program runs a program in one process, package client talks to a running Hersh, and cmd/hersh is the command line.
package hersh
