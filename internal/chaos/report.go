package chaos

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
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
	Problems []Problem
}

// FaultRow is one kind of fault.
type FaultRow struct {
	Kind     string
	Count    int
	Measured int           // Those that came alone, so that their recovery could be measured.
	Slowest  time.Duration // From the end of the fault until all that was under way by then was at rest.
}

// rows counts the faults and looks in the logs for how long each held something up.
func rows(faults []fault, all []truth) []FaultRow {
	byKind := map[string]*FaultRow{}
	for _, f := range faults {
		row := byKind[f.kind]
		if row == nil {
			row = &FaultRow{Kind: f.kind}
			byKind[f.kind] = row
		}
		row.Count++
		if f.alone {
			row.Measured++
			row.Slowest = max(row.Slowest, recovery(f, all))
		}
	}
	var list []FaultRow
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		list = append(list, *byKind[kind])
	}
	return list
}

// recovery is how long after the end of a fault the last program came to rest that was not at rest at some time of the fault.
func recovery(f fault, all []truth) time.Duration {
	slowest := time.Duration(0)
	for _, t := range all {
		for _, busy := range t.busy() {
			if busy.from.Before(f.ended) && busy.to.After(f.began) {
				slowest = max(slowest, busy.to.Sub(f.ended))
			}
		}
	}
	return slowest
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
	fmt.Fprintln(w, "FAULT\tTIMES\tMEASURED\tSLOWEST RECOVERY")
	total := 0
	for _, f := range r.Faults {
		total += f.Count
		slowest := "-"
		if f.Measured > 0 {
			slowest = f.Slowest.Round(100 * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", f.Kind, f.Count, f.Measured, slowest)
	}
	fmt.Fprintf(w, "all\t%d\t\t\n", total)
	if err := w.Flush(); err != nil {
		return err
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
