package events

import (
	"cmp"
	"fmt"
	"math"
)

// What a program may use whose limits do not say.
const (
	DefaultMemoryBytes = 256 << 20
	DefaultCPUMillis   = 1000
	DefaultPids        = 256
)

// OrDefault fills in what is not said.
func (l Limits) OrDefault() Limits {
	return Limits{
		MemoryBytes: cmp.Or(l.MemoryBytes, DefaultMemoryBytes),
		CPUMillis:   cmp.Or(l.CPUMillis, DefaultCPUMillis),
		Pids:        cmp.Or(l.Pids, DefaultPids),
	}
}

// Capacity is what a host takes. A field that is zero is no bound.
type Capacity struct {
	Programs    int   `json:"programs,omitempty"`    // Programs that are on it and not at rest.
	MemoryBytes int64 `json:"memoryBytes,omitempty"` // That the limits of those add up to.
	CPUMillis   int64 `json:"cpuMillis,omitempty"`   // That the limits of those add up to, in thousandths of a processor.
}

// Load is what is promised of a Capacity.
type Load struct {
	Programs    int   `json:"programs"`
	MemoryBytes int64 `json:"memoryBytes"`
	CPUMillis   int64 `json:"cpuMillis"`
}

// Plus is the load with one program more.
func (l Load) Plus(limits Limits) Load {
	limits = limits.OrDefault()
	return Load{Programs: l.Programs + 1, MemoryBytes: sum(l.MemoryBytes, limits.MemoryBytes), CPUMillis: sum(l.CPUMillis, limits.CPUMillis)}
}

// sum adds what is not negative and stops at the greatest number: limits are what a user says, and must not wrap around to little.
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Full returns why a host with this load has no room for a program of these limits, in words, or "" where it has.
func (c Capacity) Full(load Load, limits Limits) string {
	with := load.Plus(limits)
	switch {
	case c.Programs > 0 && with.Programs > c.Programs:
		return fmt.Sprintf("it has %d programs, as many as it takes", load.Programs)
	case c.MemoryBytes > 0 && with.MemoryBytes > c.MemoryBytes:
		return fmt.Sprintf("of its %d MiB of memory, %d MiB are promised to programs", c.MemoryBytes>>20, load.MemoryBytes>>20)
	case c.CPUMillis > 0 && with.CPUMillis > c.CPUMillis:
		return fmt.Sprintf("of its %g processors, %g are promised to programs", float64(c.CPUMillis)/1000, float64(load.CPUMillis)/1000)
	}
	return ""
}
