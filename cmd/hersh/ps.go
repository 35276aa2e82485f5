package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	psPoll     = 2 * time.Second        // Between looks where the live feed says nothing.
	psDebounce = 200 * time.Millisecond // The read model follows the live feed by some milliseconds.
	psPatience = 2 * time.Minute        // How long --watch goes on while nobody answers.
)

type psCmd struct {
	User  string `short:"u" help:"Only the programs of this user. Default: of all, or of the tenant whose key this is." placeholder:"NAME"`
	Watch bool   `help:"Go on and show what changes: a table on a terminal, otherwise a line for each change."`
	Full  bool   `help:"Show whole IDs in the table."`
}

func (cmd *psCmd) Run(a *app) error {
	var user events.UserID
	if cmd.User != "" {
		var err error
		if user, err = parseUser(cmd.User); err != nil {
			return err
		}
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if user == "" {
		if user, err = c.Tenant(a.ctx); err != nil {
			return err
		}
	}
	if cmd.Watch {
		return cmd.watch(a, c, user)
	}
	list, err := cmd.list(a, c, user)
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(list)
	}
	if len(list) == 0 && user != "" {
		a.note("%s has no programs. Create one with `hersh deploy DIR --user %[1]s`.", user)
		return nil
	}
	if len(list) == 0 {
		a.note("There are no programs yet. Create one with `hersh deploy DIR --user NAME`.")
		return nil
	}
	return a.table(cmd.rows(list))
}

func (cmd *psCmd) list(a *app, c *client.Client, user events.UserID) ([]programView, error) {
	list := []programView{}
	for cp, err := range c.List(a.ctx, user) {
		if err != nil {
			return nil, err
		}
		list = append(list, viewOf(cp, time.Time{}))
	}
	return list, nil
}

func (cmd *psCmd) rows(list []programView) [][]string {
	rows := [][]string{{"PROGRAM", "USER", "BUILD", "STATE", "HOST", "ATTEMPT", "LAST EVENT", "ERROR"}}
	for _, v := range list {
		rows = append(rows, cmd.row(v))
	}
	return rows
}

func (cmd *psCmd) row(v programView) []string {
	id := short(v.ProgramID)
	if cmd.Full {
		id = string(v.ProgramID)
	}
	return []string{
		id, string(v.User), string(v.BuildID), v.State.String(), orDash(string(v.HostID)),
		strconv.FormatUint(v.Attempt, 10), age(time.Now(), v.Updated), cut(oneLine(v.ErrorMsg), 80),
	}
}

func cut(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// watch lists again and again: soon after an event of the live feed, and every few seconds.
func (cmd *psCmd) watch(a *app, c *client.Client, user events.UserID) error {
	feed := user
	if feed == "" {
		feed = "*"
	}
	news := make(chan struct{}, 1)
	sub, err := c.Conn().Subscribe(events.UserFeedSubjects(feed), func(*nats.Msg) {
		select {
		case news <- struct{}{}:
		default: // One is enough.
		}
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // Fails only on a closed connection.
	seen := map[events.ProgramID]programView{}
	good := time.Now()
	for {
		list, err := cmd.list(a, c, user)
		switch {
		case a.ctx.Err() != nil:
			return nil
		case err == nil:
			good = time.Now()
			err = cmd.show(a, list, seen)
		case passing(err) && time.Since(good) < psPatience:
			err = nil
		}
		if err != nil {
			return err
		}
		if !waitNews(a.ctx, news) {
			return nil
		}
	}
}

// waitNews reports false when ctx ends.
func waitNews(ctx context.Context, news <-chan struct{}) bool {
	timer := time.NewTimer(psPoll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-news:
	}
	timer.Reset(psDebounce)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// show draws the table on a terminal, and elsewhere a line for each program that is not as it was seen before.
func (cmd *psCmd) show(a *app, list []programView, seen map[events.ProgramID]programView) error {
	if a.outTTY && !a.json() {
		fmt.Fprint(a.out, "\x1b[H\x1b[2J")
		return a.table(cmd.rows(list))
	}
	gone := maps.Clone(seen)
	for _, v := range list {
		delete(gone, v.ProgramID)
		if seen[v.ProgramID].Seq == v.Seq {
			continue
		}
		seen[v.ProgramID] = v
		if err := cmd.showChange(a, v); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		delete(seen, id)
		if !a.json() {
			a.printLine(fmt.Sprintf("%s  deleted", id))
		}
	}
	return nil
}

func (cmd *psCmd) showChange(a *app, v programView) error {
	if a.json() {
		return a.print(v)
	}
	line := fmt.Sprintf("%s  %s  %-8s  %s", stamp(v.Updated), v.ProgramID, v.State, v.HostID)
	if v.ErrorMsg != "" {
		line += "  " + oneLine(v.ErrorMsg)
	}
	a.printLine(line)
	return nil
}
