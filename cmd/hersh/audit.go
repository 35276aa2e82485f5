package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	auditRounds = 6 // Looks at a program that differs, before that is believed: it may only be moving.
	auditPause  = 500 * time.Millisecond
)

type auditCmd struct {
	ID string `arg:"" optional:"" help:"Program ID, or any beginning or end of one. Default: all programs."`
}

// difference is one thing in which the read model is not what the log says.
type difference struct {
	ProgramID events.ProgramID `json:"programId"`
	Field     string           `json:"field"` // As in the JSON of a checkpoint; "checkpoint" and "log" are the whole.
	ReadModel string           `json:"readModel"`
	Log       string           `json:"log"`
}

type auditReport struct {
	Programs    int          `json:"programs"`
	Events      int          `json:"events"`
	Differences []difference `json:"differences"`
}

// Run reads the streams themselves, not the request API: an audit by the ones that are audited would prove little.
func (cmd *auditCmd) Run(a *app) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	tenant, err := c.Tenant(a.ctx)
	if err != nil {
		return err
	}
	if tenant != "" {
		return sentence("an audit reads the logs and the read model themselves, which only an operator may: use the provisioner's key.")
	}
	b, err := bus.New(c.Conn(), slog.New(slog.DiscardHandler), bus.Options{})
	if err != nil {
		return err
	}
	programs, err := cmd.programs(a, c, b)
	if err != nil {
		return explainAudit(err)
	}
	report, err := audit(a.ctx, b, programs)
	if err != nil {
		return explainAudit(err)
	}
	return report.tell(a)
}

func explainAudit(err error) error {
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return sentence("the read model is not there at all; a supervisor makes it and fills it from the logs.")
	}
	return err
}

// programs are those to audit: all that have a log or a checkpoint.
func (cmd *auditCmd) programs(a *app, c *client.Client, b *bus.Bus) ([]events.ProgramID, error) {
	if cmd.ID != "" {
		id, err := a.program(c, cmd.ID)
		if err != nil {
			return nil, err
		}
		exists, err := b.Exists(a.ctx, id)
		if err != nil {
			return nil, err
		}
		if _, found, err := b.Load(a.ctx, id); !exists && !found {
			return nil, errors.Join(err, sentence(fmt.Sprintf("there is no program %s; `hersh ps` lists those that there are.", id)))
		}
		return []events.ProgramID{id}, nil
	}
	all := map[events.ProgramID]bool{}
	for head, err := range b.Heads(a.ctx) {
		if err != nil {
			return nil, err
		}
		all[head.ProgramID] = true
	}
	for cp, err := range b.Checkpoints(a.ctx, "") {
		if err != nil {
			return nil, err
		}
		all[cp.State.ID] = true
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// audit compares every program, and those that differ again and again: a supervisor may be about to save what is missing.
func audit(ctx context.Context, b *bus.Bus, programs []events.ProgramID) (auditReport, error) {
	report := auditReport{Programs: len(programs), Differences: []difference{}}
	suspects := programs
	for round := range auditRounds {
		if round > 0 && !pause.For(ctx, auditPause) {
			return report, ctx.Err()
		}
		report.Differences = []difference{}
		var still []events.ProgramID
		for _, id := range suspects {
			n, found, err := compare(ctx, b, id)
			if err != nil {
				return report, fmt.Errorf("audit %s: %w", id, err)
			}
			if len(found) > 0 {
				still = append(still, id)
				report.Differences = append(report.Differences, found...)
			} else {
				report.Events += n
			}
		}
		if suspects = still; len(suspects) == 0 {
			break
		}
	}
	return report, nil
}

// compare replays one log and returns how many events it has, and in what its checkpoint differs.
func compare(ctx context.Context, b *bus.Bus, id events.ProgramID) (int, []difference, error) {
	saved, found, err := b.Load(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	// The checkpoint is held against the log as it was then, so that what comes meanwhile makes no difference.
	head, then := reducer.NewCheckpoint(id), reducer.NewCheckpoint(id)
	n := 0
	for stored, err := range b.Read(ctx, id, 0) {
		if errors.Is(err, events.ErrNoProgram) {
			return 0, orphan(id, saved, found), nil
		}
		if err != nil {
			return 0, nil, err
		}
		if head, _, err = head.Next(stored); err != nil {
			return 0, nil, err
		}
		n++
		if head.Seq <= saved.Seq {
			then = head
		}
	}
	diff := func(field, model, log string) []difference { return []difference{{id, field, model, log}} }
	switch {
	case !found && n == 0:
		return 0, nil, nil
	case !found:
		return n, diff("checkpoint", "missing, or not to be read", count(n, "event")), nil
	case saved.Seq != head.Seq:
		return n, diff("seq", fmt.Sprint(saved.Seq), fmt.Sprint(head.Seq)), nil
	}
	return n, fieldDifferences(id, saved, then), nil
}

func orphan(id events.ProgramID, saved reducer.Checkpoint, found bool) []difference {
	if !found {
		return nil // The program was deleted meanwhile.
	}
	return []difference{{id, "log", fmt.Sprintf("an event %d", saved.Seq), "missing"}}
}

// fieldDifferences compares two checkpoints field by field. What a later version adds to them is compared too.
func fieldDifferences(id events.ProgramID, saved, replayed reducer.Checkpoint) []difference {
	var list []difference
	var walk func(path string, a, b reflect.Value)
	walk = func(path string, a, b reflect.Value) {
		if t, isTime := a.Interface().(time.Time); isTime && t.Equal(b.Interface().(time.Time)) || a.Equal(b) {
			return
		}
		if a.Kind() != reflect.Struct || a.Type() == reflect.TypeFor[time.Time]() {
			list = append(list, difference{id, path, fmt.Sprint(a.Interface()), fmt.Sprint(b.Interface())})
			return
		}
		for i := range a.NumField() {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			walk(strings.TrimPrefix(path+"."+name, "."), a.Field(i), b.Field(i))
		}
	}
	walk("", reflect.ValueOf(saved), reflect.ValueOf(replayed))
	return list
}

func (r auditReport) tell(a *app) error {
	if a.json() {
		if err := a.print(r); err != nil {
			return err
		}
	} else {
		for _, d := range r.Differences {
			a.printLine(fmt.Sprintf("%s: %s: the read model has %q, the log says %q", d.ProgramID, d.Field, oneLine(d.ReadModel), oneLine(d.Log)))
		}
	}
	if n := len(r.Differences); n > 0 {
		a.note("hersh: %s in %s. The logs are right. To have a checkpoint made anew from its log: nats kv del %s USER.PROGRAM",
			count(n, "difference"), count(r.Programs, "program"), events.BucketPrograms)
		return &exitCode{code: exitFailed}
	}
	if !a.json() {
		a.printLine(fmt.Sprintf("%s, %s replayed: the read model is what the logs say", count(r.Programs, "program"), count(r.Events, "event")))
	}
	return nil
}
