package executor

import (
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// judgements is what becomes of a container: the program's state, whether its host is this one ("here"), another ("away") or
// none ("none"), the container's attempt against the program's, whether the program names it, and whether it runs. A dash is
// any; the first line that fits counts.
const judgements = `
	state     host  attempt  named   runs   verdict
	-         -     later    -       -      leave    its start was decided by a longer log than was read
	Building  -     same     -       -      leave    an attempt that is under way
	Starting  here  same     -       -      leave    an attempt that is under way
	-         away  -        -       -      remove   the program is on another host
	-         none  -        -       -      remove   the program is on no host
	-         here  -        other   -      remove   the log has left it behind, or the program runs in another
	Created   here  -        named   -      remove
	Building  here  -        named   -      remove
	Starting  here  -        named   -      remove
	Ready     here  -        named   runs   adopt    by its name: a foreign executor may say no attempt
	Ready     here  -        named   ended  report
	Stopping  here  -        named   -      leave    its stop is in the queue
	Error     here  -        named   ended  leave    evidence
	Error     here  -        named   runs   remove
	Stopped   here  -        named   -      remove
`

func TestJudgeIsDecidedForEveryCase(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(judgements), "\n")[1:]
	used := make([]bool, len(rows))
	hosts := map[string]events.HostID{"here": "h1", "away": "h2", "none": ""}
	attempts := map[string]uint64{"earlier": 4, "same": 5, "later": 6}
	names := map[verdict]string{leave: "leave", adopt: "adopt", report: "report", remove: "remove"}
	for state := reducer.StateCreated; state <= reducer.StateError; state++ {
		for host, hostID := range hosts {
			for attempt, number := range attempts {
				for named, id := range map[string]string{"named": "c", "other": "d"} {
					for runs, running := range map[string]bool{"runs": true, "ended": false} {
						s := reducer.ProgramState{State: state, HostID: hostID, Attempt: 5, ContainerID: id}
						c := effects.Container{ID: "c", Attempt: number, Running: running}
						facts := []string{state.String(), host, attempt, named, runs}
						row, want := lookUp(rows, facts)
						if row < 0 {
							t.Fatalf("no line for %v", facts)
						}
						used[row] = true
						if got := names[judge(s, "h1", c)]; got != want {
							t.Errorf("%v: %s, want %s", facts, got, want)
						}
					}
				}
			}
		}
	}
	for i, row := range rows {
		if !used[i] {
			t.Errorf("no case for %s", row)
		}
	}
}

func lookUp(rows, facts []string) (int, string) {
	for i, row := range rows {
		fields := strings.Fields(row)
		fits := true
		for j, fact := range facts {
			fits = fits && (fields[j] == "-" || fields[j] == fact)
		}
		if fits {
			return i, fields[len(facts)]
		}
	}
	return -1, ""
}
