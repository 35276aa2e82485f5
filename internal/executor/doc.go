// Package executor runs effects on one host and publishes their results. It keeps nothing that the log and Docker do not hold: it
// may die between any two instructions.
//
// Run has these loops, which share nothing but the programs' locks:
//
//	queues      any.build, any.run, <host>.build, <host>.run: Handle runs the effects of one transition
//	exits       Docker's event stream: a container ended, Settle says what that means
//	comparison  at the start before any work is taken, after each reconnect, and every 30 s: Compare holds Docker against the
//	            logs; it resumes what runs rightly, reports exits that were missed, and removes what is nobody's. Work waits
//	            until each container was tried, not until all succeed; what failed is tried again soon
//	resume      once at the start: what the logs await of this host, and its predecessor may have had in hand when it died
//	reconnects  work stops until a comparison has begun after the last of them
//	heartbeat   every few seconds
//	drain       every few seconds: whether the host is to take new programs
//	fence       where it is asked for: ends all containers while the bus takes no heartbeat
//
// A message is a trigger only. Handle derives the effects from the program's log, and drops what the head of the log does not
// await any more; so a forged, altered, late or repeated message runs nothing that the log did not decide.
package executor
