// Package chaos kills a whole Hersh again and again, and then looks whether anything was lost. It runs the production services as
// processes of this machine, with a NATS cluster of three real servers; only Docker is replaced, by containers that are processes
// (package box), so that rates are high and nothing needs root.
//
//	process.go   a process that can be killed, frozen and started again
//	cluster.go   three NATS servers, each with a folder of its own
//	proxy.go     TCP connections that can be cut
//	system.go    the cluster, three supervisors and three executors
//	users.go     users: they publish at random over plain NATS and remember every acknowledgement
//	nemesis.go   what goes wrong, by a seeded schedule
//	watch.go     what must hold at any moment: never two running containers of a program
//	check.go     what must hold at rest
//	report.go    the table
//
// Run does all of it. `make chaos` calls it through package main in cmd; the tests of this package use the cluster alone.
package chaos
