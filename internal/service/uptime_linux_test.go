package service_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rlaaudgjs5638/hersh/internal/service"
)

// The clock that goes on in a suspended machine is never behind the one that stands still in it.
func TestUptimeIsThatOfTheMachine(t *testing.T) {
	uptime := service.Uptime()
	if uptime == nil {
		t.Fatal("Linux has such a clock")
	}
	var standing unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &standing); err != nil {
		t.Fatal(err)
	}
	first := uptime()
	if least := time.Duration(standing.Nano()); first < least {
		t.Errorf("the machine is up for %s, the clock says %s", least, first)
	}
	if second := uptime(); second < first {
		t.Errorf("the clock goes back from %s to %s", first, second)
	}
}
