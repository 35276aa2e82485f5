package chaos

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	slowRecovery = 10 * time.Second // A recovery that takes longer is told of on a line of its own.
	clock        = "15:04:05.000"
)

// Report is what a run ends with.
type Report struct {
	Seed     uint64
	Duration time.Duration
	Programs int
	Events   int // In all logs.
	Sent     int // Publications of users.
	Acked    int // Of them, acknowledged.
	Rest     time.Duration
	Faults   []FaultRow
	Measured []Recovery
	Problems []Problem
}

// FaultRow is one kind of fault.
type FaultRow struct {
	Kind     string
	Count    int
	Measured int // Those that came alone, so that their recovery could be measured.
	Median   time.Duration
	Slowest  time.Duration
}

// Recovery is how long one fault that came alone held programs up: from the moment when it was put right until all that was under
// way by then was at rest. For a host that is gone it is from the moment when it went until its programs were not on it any more.
type Recovery struct {
	Kind, Target string
	Began, Ended time.Time // Of the fault.
	Took         time.Duration
	Program      events.ProgramID // The last to recover; "" where none was held up.
}

// measure looks in the logs for how long each fault that came alone held something up.
func measure(faults []fault, all []truth) []Recovery {
	var list []Recovery
	for _, f := range faults {
		if !f.alone {
			continue
		}
		r := Recovery{Kind: f.kind, Target: f.target, Began: f.began, Ended: f.ended}
		for _, t := range all {
			if took := held(f, t); took > r.Took {
				r.Took, r.Program = took, t.id
			}
		}
		list = append(list, r)
	}
	return list
}

func held(f fault, t truth) time.Duration {
	slowest := time.Duration(0)
	if f.kind == hostGone {
		for _, on := range t.on(events.HostID(f.target)) {
			if on.from.Before(f.began) && on.to.After(f.began) {
				slowest = max(slowest, on.to.Sub(f.began))
			}
		}
		return slowest
	}
	for _, busy := range t.busy() {
		if busy.from.Before(f.ended) && busy.to.After(f.began) {
			slowest = max(slowest, busy.to.Sub(f.ended))
		}
	}
	return slowest
}

// rows counts the faults by kind.
func rows(faults []fault, measured []Recovery) []FaultRow {
	counts, times := map[string]int{}, map[string][]time.Duration{}
	for _, f := range faults {
		counts[f.kind]++
	}
	for _, r := range measured {
		times[r.Kind] = append(times[r.Kind], r.Took)
	}
	var list []FaultRow
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		row := FaultRow{Kind: kind, Count: counts[kind], Measured: len(times[kind])}
		if took := times[kind]; len(took) > 0 {
			slices.Sort(took)
			row.Median, row.Slowest = took[len(took)/2], took[len(took)-1]
		}
		list = append(list, row)
	}
	return list
}

// span is a time in which a program was not at rest; to is zero while it still is not.
type span struct{ from, to time.Time }

func (t truth) busy() []span {
	var list []span
	for _, step := range t.steps {
		before, after := atRest(step.Before.State), atRest(step.After.State)
		switch {
		case before && !after:
			list = append(list, span{from: step.Time})
		case !before && after:
			list[len(list)-1].to = step.Time
		case !before && isUser(step.Event) && step.Ignored == "":
			// The user wants something else: what is waited for from here on is new.
			list[len(list)-1].to = step.Time
			list = append(list, span{from: step.Time})
		}
	}
	return list
}

// on returns when the program was on a host and needed it.
func (t truth) on(host events.HostID) []span {
	var list []span
	needs := func(s reducer.ProgramState) bool {
		return s.HostID == host && (s.State == reducer.StateReady || !atRest(s.State))
	}
	for _, step := range t.steps {
		switch before, after := needs(step.Before), needs(step.After); {
		case !before && after:
			list = append(list, span{from: step.Time})
		case before && !after:
			list[len(list)-1].to = step.Time
		}
	}
	return list
}

// Count is how many problems there are of a kind.
func (r Report) Count(kind string) int {
	n := 0
	for _, p := range r.Problems {
		if p.Kind == kind {
			n++
		}
	}
	return n
}

// Write prints the table.
func (r Report) Write(out io.Writer) error {
	fmt.Fprintf(out, "seed %d, %s, %d programs\n\n", r.Seed, r.Duration, r.Programs)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tTIMES\tMEASURED\tMEDIAN RECOVERY\tSLOWEST")
	total := 0
	for _, f := range r.Faults {
		total += f.Count
		median, slowest := "-", "-"
		if f.Measured > 0 {
			median, slowest = f.Median.Round(100*time.Millisecond).String(), f.Slowest.Round(100*time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", f.Kind, f.Count, f.Measured, median, slowest)
	}
	fmt.Fprintf(w, "all\t%d\t\t\t\n", total)
	if err := w.Flush(); err != nil {
		return err
	}
	for _, m := range r.Measured {
		if m.Took > slowRecovery {
			fmt.Fprintf(out, "slow: %s, %s, %s to %s: %s, for %s\n", m.Kind, m.Target, m.Began.UTC().Format(clock), m.Ended.UTC().Format(clock), m.Took, m.Program)
		}
	}
	fmt.Fprintf(out, "\n%d publications of users, %d acknowledged; %d events in the logs; at rest %s after the last fault\n",
		r.Sent, r.Acked, r.Events, r.Rest.Round(100*time.Millisecond))
	fmt.Fprintf(out, "lost %d, duplicated %d, orphans %d, stuck %d, wrong %d\n", r.Count(ProblemLost), r.Count(ProblemDuplicated),
		r.Count(ProblemOrphan), r.Count(ProblemStuck), r.Count(ProblemWrong))
	for _, p := range r.Problems {
		fmt.Fprintln(out, p)
	}
	return nil
}
