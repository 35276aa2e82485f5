package main

import (
	"github.com/rlaaudgjs5638/hersh/events"
)

type logsCmd struct {
	ID     string `arg:"" help:"Program ID, or any beginning or end of one."`
	Follow bool   `short:"f" help:"Go on and show what it prints from now on."`
	Build  bool   `help:"Show what its builds printed instead."`
}

// Run prints what the program wrote to its stdout to stdout, and its stderr to stderr. In JSON there is a line a chunk.
func (cmd *logsCmd) Run(a *app) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := a.program(c, cmd.ID)
	if err != nil {
		return err
	}
	var stream events.LogStream
	if cmd.Build {
		stream = events.LogBuild
	}
	printed := false
	for chunk, err := range c.Logs(a.ctx, id, stream, cmd.Follow) {
		if cmd.Follow && a.ctx.Err() != nil {
			return nil // Ctrl-C is how following ends.
		}
		if err != nil {
			return noProgram(id, err)
		}
		printed = true
		switch {
		case a.json():
			err = a.print(chunk)
		case chunk.Stream == events.LogStderr:
			_, err = a.errOut.Write(chunk.Data)
		default:
			_, err = a.out.Write(chunk.Data)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case printed || a.json():
	case cmd.Build:
		a.note("hersh: its builds have printed nothing.")
	default:
		a.note("hersh: it has printed nothing. `hersh logs --build %s` shows what its builds printed.", short(id))
	}
	return nil
}
