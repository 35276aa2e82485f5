package main

import (
	"fmt"
	"time"

	"github.com/rlaaudgjs5638/hersh/internal/api"
)

// quotas are the flags that bound what one user may have and ask. Give every supervisor the same.
type quotas struct {
	Programs int   `name:"quota-programs" help:"Programs that a user may have at once." env:"HERSH_QUOTA_PROGRAMS" default:"1000"`
	Source   int64 `name:"quota-source" help:"Size of one source, in MiB; 256 is the most." env:"HERSH_QUOTA_SOURCE" default:"256"`
	Sources  int64 `name:"quota-sources" help:"Size of all sources of a user, in MiB, and again of uploads that are not complete." env:"HERSH_QUOTA_SOURCES" default:"2048"`
	Events   int64 `name:"quota-events" help:"Events of each type that a program takes in its life; of programs that are created from now on." env:"HERSH_QUOTA_EVENTS" default:"10000"`
	Requests int   `name:"quota-requests" help:"Requests of a user in a second, and twice as many at once, at each supervisor." env:"HERSH_QUOTA_REQUESTS" default:"500"`
	Output   int64 `name:"quota-output" help:"Output kept for a user, in MiB, of all programs together; the oldest goes first." env:"HERSH_QUOTA_OUTPUT" default:"256"`
}

const maxSourceMiB = 256 // What executors take; see package source.

func (q quotas) check() error {
	for _, f := range []struct {
		name        string
		value, most int64
		unit        string
	}{
		{"programs", int64(q.Programs), 1 << 30, "programs"},
		{"source", q.Source, maxSourceMiB, "MiB, which is what executors unpack"},
		{"sources", q.Sources, 1 << 40, "MiB"},
		{"events", q.Events, 1 << 40, "events"},
		{"requests", int64(q.Requests), int64(time.Second / time.Microsecond), "requests a second"},
		{"output", q.Output, 1 << 40, "MiB"},
	} {
		if f.value < 1 || f.value > f.most {
			return fmt.Errorf("--quota-%s is %d: give it a number from 1 to %d %s", f.name, f.value, f.most, f.unit)
		}
	}
	return nil
}

func (q quotas) perUser() api.Quotas {
	return api.Quotas{
		Programs: q.Programs, SourceBytes: q.Source << 20, SourcesBytes: q.Sources << 20,
		RequestsEvery: time.Second / time.Duration(max(q.Requests, 1)), RequestsBurst: 2 * q.Requests, OutputBytes: q.Output << 20,
	}
}
