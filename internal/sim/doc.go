// Package sim searches for violations of what Hersh promises: kill anything, lose nothing. It drives the production code,
// supervisor.Reconcile and Sweep, executor.Handle, Settle and Compare, through models of the bus (bustest.Memory) and of Docker,
// in one thread, with a clock and a scheduler of its own that follow a seed.
//
//	world.go     what there is: programs, processes, the clock; one seed from beginning to end
//	task.go      work under way: coroutines that stop at every call through an interface, where another may go on
//	schedule.go  what happens next: work, users, timers, faults
//	faults.go    what goes wrong: at a call, or to the world
//	client.go    the bus as a process sees it
//	docker.go    a model of Docker, and the host as an executor sees it
//	rest.go      letting the world come to rest
//	check.go     what must hold, always and at rest
//
// A run is a function of its Config and nothing else: the same seed gives the same trace, byte by byte.
//
// Small worlds are gone through completely, every order of steps of them, instead of by chance:
//
//	small.go        what may come next in a small world
//	explore.go      all of it, in every order
//	fingerprint.go  whether two worlds go on alike
//	description.go  what of a world that depends on
//	seen.go         what of what it was told a task still looks at
//	order.go        which orders need not be told apart
//	clone.go        beginning in the middle
package sim
