package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/rlaaudgjs5638/hersh/internal/sim"
)

// simTraceLines is how much of the trace of a violation is shown.
const simTraceLines = 100

type simCmd struct {
	Seed     uint64 `help:"What everything in the run follows from; 0 takes one that nobody has tried."`
	Programs int    `help:"Programs of the world; 0 leaves it to the seed." placeholder:"N"`
	Hosts    int    `help:"Hosts of the world; 0 leaves it to the seed." placeholder:"H"`
	Steps    int    `help:"Steps with faults before each of the three times that the world comes to rest and is checked." default:"500"`
}

// simReport is what a simulated run came to.
type simReport struct {
	Seed        uint64 `json:"seed"`
	Programs    int    `json:"programs"`
	Hosts       int    `json:"hosts"`
	Supervisors int    `json:"supervisors"`
	Steps       int    `json:"steps"`
	Faults      int    `json:"faults"`
	Events      int    `json:"events"`
	Violation   string `json:"violation,omitempty"`
	Trace       string `json:"trace,omitempty"` // The end of it, as far as it concerns the program of the violation.
}

// Run needs no server: the world is in memory.
func (cmd *simCmd) Run(a *app) error {
	const most = 100
	if cmd.Programs < 0 || cmd.Programs > most || cmd.Hosts < 0 || cmd.Hosts > most || cmd.Steps < 1 {
		return wrongUsage("--programs and --hosts are 0 to %d, and --steps at least 1.", most)
	}
	return simulate(a, cmd.config())
}

func (cmd *simCmd) config() sim.Config {
	seed := cmd.Seed
	if seed == 0 {
		seed = rand.Uint64() >> 16 // #nosec G404 -- A seed is printed, and nobody has to be kept from guessing it.
	}
	cfg := sim.Small(seed)
	cfg.Steps = cmd.Steps
	if cmd.Programs > 0 {
		cfg.Programs = cmd.Programs
	}
	if cmd.Hosts > 0 {
		cfg.Hosts = cmd.Hosts
	}
	return cfg
}

// simulate runs a world and tells what it came to; a violation, in the shortest run of that seed that is found, is exit code 1.
func simulate(a *app, cfg sim.Config) error {
	result := sim.Run(cfg)
	report := simReport{
		Seed: cfg.Seed, Programs: cfg.Programs, Hosts: cfg.Hosts, Supervisors: cfg.Supervisors,
		Steps: result.Steps, Faults: result.Faults, Events: result.Events,
	}
	if result.Violation != nil {
		shortest := sim.Shrink(cfg, result)
		report.Violation, report.Trace = shortest.Violation.Error(), sim.Shorten(shortest, simTraceLines)
	}
	return report.tell(a)
}

func (r simReport) tell(a *app) error {
	if a.json() {
		if err := a.print(r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "seed %d: %d programs, %d hosts, %d supervisors; %d steps, %d faults, %d events\n",
			r.Seed, r.Programs, r.Hosts, r.Supervisors, r.Steps, r.Faults, r.Events)
		if r.Violation == "" {
			fmt.Fprintln(a.out, "everything held")
		} else {
			fmt.Fprintf(a.out, "%s\nVIOLATION of seed %d: %s\n", r.Trace, r.Seed, r.Violation)
		}
	}
	if r.Violation != "" {
		return &exitCode{code: exitFailed}
	}
	return nil
}
