package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

type waitFlags struct {
	Wait    bool          `short:"w" help:"Wait until the program has come to rest."`
	Timeout time.Duration `help:"How long to wait." default:"15m"`
}

type startCmd struct {
	ID string `arg:"" help:"Program ID, or any beginning or end of one."`
	waitFlags
}

type stopCmd struct {
	ID string `arg:"" help:"Program ID, or any beginning or end of one."`
	waitFlags
}

type restartCmd struct {
	ID string `arg:"" help:"Program ID, or any beginning or end of one."`
	waitFlags
}

type publish func(*client.Client, context.Context, events.ProgramID) (uint64, error)

func (cmd *startCmd) Run(a *app) error {
	return a.ask(cmd.ID, cmd.waitFlags, (*client.Client).Start, startWanted)
}

func (cmd *stopCmd) Run(a *app) error {
	return a.ask(cmd.ID, cmd.waitFlags, (*client.Client).Stop, stopWanted)
}

func (cmd *restartCmd) Run(a *app) error {
	return a.ask(cmd.ID, cmd.waitFlags, (*client.Client).Restart, nothingElse)
}

// outcome is what came of an event that a command published.
type outcome struct {
	ProgramID events.ProgramID `json:"programId"`
	Seq       uint64           `json:"seq"`             // Of the event.
	State     *reducer.State   `json:"state,omitempty"` // After it, or at rest with --wait; missing where nobody could tell yet.
	Ignored   string           `json:"ignored,omitempty"`
	Rejected  string           `json:"rejected,omitempty"`
	ErrorMsg  string           `json:"errorMsg,omitempty"`
	ExitCode  int              `json:"exitCode,omitempty"`
	ran       bool             // Its container is there, so that it may have printed something.
}

// ask publishes a user event and says what came of it.
func (a *app) ask(arg string, flags waitFlags, do publish, wanted func(reducer.State) bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := a.program(c, arg)
	if err != nil {
		return err
	}
	seq, err := do(c, a.ctx, id)
	if errors.Is(err, client.ErrNoProgram) {
		return sentence(fmt.Sprintf("there is no program %s; `hersh ps` lists those that there are.", id))
	}
	if err != nil {
		return err
	}
	out, err := a.await(c, id, seq, flags)
	if err != nil {
		return err
	}
	if a.json() {
		if err := a.print(out); err != nil {
			return err
		}
	} else if out.State != nil && out.Ignored == "" && out.Rejected == "" {
		a.printLine(fmt.Sprintf("%s is %s", id, out.State))
	}
	return a.judge(id, out, flags.Wait, wanted)
}

// await looks what became of an event, and waits for the program to come to rest where that was asked for.
func (a *app) await(c *client.Client, id events.ProgramID, seq uint64, flags waitFlags) (outcome, error) {
	out := outcome{ProgramID: id, Seq: seq}
	if !flags.Wait {
		step, err := c.Outcome(a.ctx, id, seq)
		if errors.Is(err, client.ErrUnavailable) {
			a.note("The request is stored as event %d. No supervisor answers now; it is served as soon as one does.", seq)
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out.State, out.Ignored, out.Rejected = &step.To, step.Ignored, step.Rejected
		return out, nil
	}
	ctx, cancel := context.WithTimeout(a.ctx, flags.Timeout)
	defer cancel()
	line := a.progress()
	defer line.clear()
	settled, err := c.WaitSettled(ctx, id, seq, func(step client.Step) { line.show("%s", onTheWay(step)) })
	if err != nil {
		if a.ctx.Err() != nil {
			line.clear()
			a.note("hersh: not waiting any more; what was asked for goes on. `hersh status %s` shows it, `hersh stop %[1]s` stops the program.", short(id))
		} else if ctx.Err() != nil {
			return out, sentence(fmt.Sprintf("%s has not come to rest within %s. It goes on; see `hersh status %s`.", id, flags.Timeout, short(id)))
		}
		return out, err
	}
	s := settled.State
	out.State, out.Ignored, out.Rejected = &s.State, settled.Ignored, settled.Rejected
	out.ErrorMsg, out.ExitCode, out.ran = s.ErrorMsg, s.ExitCode, s.ContainerID != ""
	return out, nil
}

func onTheWay(step client.Step) string {
	if step.Host != "" {
		return fmt.Sprintf("%s, attempt %d on %s", step.To, step.Attempt, step.Host)
	}
	return fmt.Sprintf("%s, attempt %d", step.To, step.Attempt)
}

// judge tells of what was not as asked, and gives the exit code. An event that changed nothing is no failure where the program is
// as it was wanted anyway.
func (a *app) judge(id events.ProgramID, out outcome, waited bool, wanted func(reducer.State) bool) error {
	switch {
	case out.Rejected != "":
		return sentence(fmt.Sprintf("%s did not take the event: %s.", id, out.Rejected))
	case out.Ignored != "":
		a.note("hersh: nothing was done, since %s; %s is %s.", out.Ignored, short(id), out.State)
	}
	if waited && *out.State == reducer.StateError {
		a.note("hersh: %s ended in Error: %s", short(id), oneLine(out.ErrorMsg))
		see := "hersh logs --build"
		if out.ran {
			see = "hersh logs"
		}
		a.note("hersh: see `%s %s` for what was printed, `hersh history %[2]s` for what happened.", see, short(id))
		return &exitCode{code: exitError}
	}
	if out.Ignored != "" && !wanted(*out.State) {
		return &exitCode{code: exitFailed}
	}
	return nil
}

func startWanted(s reducer.State) bool {
	return s == reducer.StateBuilding || s == reducer.StateStarting || s == reducer.StateReady
}

func stopWanted(s reducer.State) bool {
	return !startWanted(s)
}

func nothingElse(reducer.State) bool { return false }

func (a *app) printLine(s string) { fmt.Fprintln(a.out, s) }

func (a *app) printIfJSON(v any) error {
	if !a.json() {
		return nil
	}
	return a.print(v)
}
