package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
)

type historyCmd struct {
	ID     string `arg:"" help:"Program ID, or any beginning or end of one."`
	Follow bool   `short:"f" help:"Go on and show what happens from now on."`
	After  uint64 `help:"Begin after this sequence." placeholder:"SEQ"`
}

// Run prints a line an event. In JSON that is the step of the request API.
func (cmd *historyCmd) Run(a *app) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := a.program(c, cmd.ID)
	if err != nil {
		return err
	}
	if !a.json() {
		a.printLine(strings.TrimRight(fmt.Sprintf(historyFormat, "SEQ", "TIME", "EVENT", "STATE", "HOST", "EFFECTS AND DETAILS"), " "))
	}
	for step, err := range cmd.steps(a, c, id) {
		if cmd.Follow && a.ctx.Err() != nil {
			return nil // Ctrl-C is how following ends.
		}
		if err != nil {
			return noProgram(id, err)
		}
		if a.json() {
			if err := a.print(step); err != nil {
				return err
			}
			continue
		}
		a.printLine(historyLine(id, step))
	}
	return nil
}

func (cmd *historyCmd) steps(a *app, c *client.Client, id events.ProgramID) iter.Seq2[client.Step, error] {
	if cmd.Follow {
		return c.Watch(a.ctx, id, cmd.After)
	}
	return c.History(a.ctx, id, cmd.After)
}

// historyFormat has columns of fixed width: lines are printed as they come.
const historyFormat = "%4s  %-24s  %-20s  %-20s  %-12s  %s"

func historyLine(id events.ProgramID, step client.Step) string {
	state := step.From.String()
	if step.From != step.To {
		state += " → " + step.To.String()
	}
	line := fmt.Sprintf(historyFormat, fmt.Sprint(step.Seq), stamp(step.Time), cut(oneLine(string(step.Type)), 40), state,
		orDash(string(step.Host)), details(id, step))
	return strings.TrimRight(line, " ")
}

// details are the effects of a step, or why it had none, and what its event says.
func details(id events.ProgramID, step client.Step) string {
	switch {
	case step.Rejected != "":
		return "rejected: " + oneLine(step.Rejected)
	case step.Ignored != "":
		return "ignored: " + step.Ignored
	}
	var parts []string
	for _, raw := range step.Effects {
		var eff struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(raw, &eff) == nil {
			parts = append(parts, "+"+oneLine(eff.Type))
		}
	}
	if said := eventDetails(id, step); said != "" {
		parts = append(parts, said)
	}
	return strings.Join(parts, " ")
}

// eventDetails is what is worth knowing of an event beyond its type.
func eventDetails(id events.ProgramID, step client.Step) string {
	ev, err := events.Decode(id, step.Type, step.Event)
	if err != nil {
		return ""
	}
	switch e := ev.(type) {
	case events.ProgramCreated:
		return string(e.BuildID)
	case events.HostDrained:
		return "an operator drains the host"
	case events.HostLost:
		return oneLine(e.Reason)
	case events.FoldersEnsured:
		return oneLine(e.Error)
	case events.BuildFinished:
		if e.Success {
			return "image " + shortRef(e.ImageID)
		}
		return oneLine(e.Error)
	case events.RuntimeStarted:
		return "container " + shortRef(e.ContainerID)
	case events.StartFailed:
		return oneLine(e.Reason)
	case events.RuntimeExited:
		if e.Reason != "" {
			return fmt.Sprintf("exit code %d, ended by the host: %s", e.ExitCode, oneLine(e.Reason))
		}
		if e.OOMKilled {
			return fmt.Sprintf("exit code %d, out of memory", e.ExitCode)
		}
		return fmt.Sprintf("exit code %d", e.ExitCode)
	case events.StopFinished:
		return oneLine(e.Error)
	}
	return ""
}

// shortRef is the beginning of an ID that Docker made, as Docker shows it itself; other references stay whole.
func shortRef(ref string) string {
	id := strings.TrimPrefix(ref, "sha256:")
	if len(id) == 64 && strings.Trim(id, "0123456789abcdef") == "" {
		return id[:12]
	}
	return oneLine(ref)
}
