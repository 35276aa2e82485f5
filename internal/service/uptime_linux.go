package service

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime returns a clock that no jump of the wall clock moves, and that goes on while the machine is suspended, which that of package time
// does not; nil where the system has none.
func Uptime() func() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return nil
	}
	return func() time.Duration {
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // It fails only where the kernel does not know the clock.
		return time.Duration(now.Nano())
	}
}
