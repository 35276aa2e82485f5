//go:build !linux

package service

import "time"

// Uptime returns a clock that no jump of the wall clock moves, and that goes on while the machine is suspended, which that of package time
// does not; nil where the system has none.
func Uptime() func() time.Duration { return nil }
