package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/service"
)

type statusCmd struct {
	ID string `arg:"" help:"Program ID, or any beginning or end of one."`
}

func (cmd *statusCmd) Run(a *app) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := a.program(c, cmd.ID)
	if err != nil {
		return err
	}
	status, err := c.Status(a.ctx, id)
	if err != nil {
		return noProgram(id, err)
	}
	view := viewOf(status.Checkpoint, status.Since)
	view.Waiting = status.Waiting
	if a.json() {
		return a.print(view)
	}
	return a.details(view)
}

// noProgram names the program that is not there; other errors come back as they are.
func noProgram(id events.ProgramID, err error) error {
	if errors.Is(err, client.ErrNoProgram) {
		return sentence(fmt.Sprintf("there is no program %s; `hersh ps` lists those that there are.", id))
	}
	return err
}

type deleteCmd struct {
	ID string `arg:"" help:"Program ID, or any beginning or end of one."`
}

func (cmd *deleteCmd) Run(a *app) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := a.program(c, cmd.ID)
	if err != nil {
		return err
	}
	if err := c.Delete(a.ctx, id); err != nil {
		return noProgram(id, err)
	}
	if a.json() {
		return a.print(map[string]events.ProgramID{"programId": id})
	}
	a.printLine(fmt.Sprintf("%s is deleted", id))
	return nil
}

type replayCmd struct {
	ID string `arg:"" help:"Program ID, or any beginning or end of one."`
	At string `help:"Sequence of an event, or a time like 2006-01-02T15:04:05Z, which means the end of that second. Default: now." placeholder:"SEQ|TIME"`
}

func (cmd *replayCmd) Run(a *app) error {
	at, err := parseAt(cmd.At, time.Now())
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := a.program(c, cmd.ID)
	if err != nil {
		return err
	}
	cp, err := c.StateAt(a.ctx, id, at)
	if err != nil {
		return noProgram(id, err)
	}
	view := viewOf(cp, time.Time{})
	if a.json() {
		return a.print(view)
	}
	return a.details(view)
}

// parseAt reads a point in the past. A time means the end of what its last digit says, so that the times that history prints, which
// are cut to milliseconds, name the events that they stand beside.
func parseAt(s string, now time.Time) (client.At, error) {
	if s == "" {
		return client.At{Time: now.Add(24 * time.Hour)}, nil // Clocks differ; no event is of tomorrow.
	}
	if seq, err := strconv.ParseUint(s, 10, 64); err == nil {
		if seq == 0 {
			return client.At{}, wrongUsage("--at 0 is before the first event, which is 1")
		}
		return client.At{Seq: seq}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return client.At{}, wrongUsage("--at %.100q is neither the sequence of an event nor a time like 2006-01-02T15:04:05Z", s)
	}
	unit := time.Second
	if _, fraction, found := strings.Cut(s, "."); found {
		for _, c := range fraction {
			if c < '0' || c > '9' || unit == 1 {
				break
			}
			unit /= 10
		}
	}
	return client.At{Time: t.Add(unit - 1)}, nil
}

type versionCmd struct{}

func (cmd *versionCmd) Run(a *app) error {
	if a.json() {
		return a.print(map[string]string{"version": service.Version()})
	}
	a.printLine(service.Version())
	return nil
}
