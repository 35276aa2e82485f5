// Package supervisor moves programs forward. A supervisor keeps no state: Reconcile reads a program's log, publishes the effects
// that its head still awaits, and saves a checkpoint, which is a cache. Any number of supervisors may do so at once, for the
// same program too: they write the same things under the same keys.
//
// Run has two loops. Each wakes Reconcile, neither is trusted for content:
//
//	wake-ups   one queued message a program that has news; may come twice, late, or be lost with the server's memory
//	sweep      at the start, after each reconnect, and every 30 s by the holder of a lease: every log whose head is not
//	           its checkpoint's sequence
//
// A failure leaves the wake-up unacknowledged, and it comes again; what is lost altogether, the sweep finds.
package supervisor
