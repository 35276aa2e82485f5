package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/hershtest"
	"github.com/rlaaudgjs5638/hersh/internal/source"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestParseAt(t *testing.T) {
	day := time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]client.At{
		"7":                              {Seq: 7},
		"2026-05-04T00:00:00Z":           {Time: day.Add(time.Second - 1)},
		"2026-05-04T02:00:00+02:00":      {Time: day.Add(time.Second - 1)},
		"2026-05-04T00:00:00.5Z":         {Time: day.Add(600*time.Millisecond - 1)},
		"2026-05-04T00:00:00.123Z":       {Time: day.Add(124*time.Millisecond - 1)},
		"2026-05-04T00:00:00.000000001Z": {Time: day.Add(1)},
	} {
		got, err := parseAt(s, day)
		if err != nil || got.Seq != want.Seq || !got.Time.Equal(want.Time) {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
	}
	if got, err := parseAt("", day); err != nil || !got.Time.After(day) {
		t.Errorf("no --at: %+v, %v", got, err)
	}
	for _, s := range []string{"0", "-1", "yesterday", "2026-05-04", "99999999999999999999999"} {
		if _, err := parseAt(s, day); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"": 0, "5": 5, "2k": 2048, "64M": 64 << 20, "1g": 1 << 30} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"0", "-1", "x", "1.5g", "k", "99999999999g", "1t"} {
		if _, err := parseSize(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 5 * time.Second: "5s", 90 * time.Second: "1m", 3 * time.Hour: "3h", 47 * time.Hour: "47h", 100 * time.Hour: "4d",
	} {
		if got := age(now, now.Add(-d)); got != want {
			t.Errorf("%s ago: %q, want %q", d, got, want)
		}
	}
	if got := age(now, time.Time{}); got != "-" {
		t.Errorf("never: %q", got)
	}
}

// TestOneLine checks that nothing a program or a daemon printed can move the cursor of a terminal.
func TestOneLine(t *testing.T) {
	if got := oneLine("a\nb\tc\r\n\x1b[31md\x00\u009b"); strings.ContainsAny(got, "\n\r\t\x1b\x00\u009b") || !strings.HasPrefix(got, "a | b | c") {
		t.Errorf("%q", got)
	}
}

func TestExplain(t *testing.T) {
	a, _, _ := testApp(t, globals{Server: "nats://user:secret@127.0.0.1:4222"})
	for _, c := range []struct {
		err  error
		says string
	}{
		{&connectError{server: "nats://x", err: nats.ErrNoServers}, "no NATS server answers at nats://x. Start Hersh"},
		{&connectError{server: "nats://x", err: nats.ErrAuthorization}, "does not let you in"},
		{&connectError{server: "nats://x", err: errors.New("odd")}, "cannot connect to NATS at nats://x: odd."},
		{fmt.Errorf("a: %w", client.ErrUnavailable), "no supervisor of Hersh does"},
		{fmt.Errorf("a: %w", client.ErrNoProgram), "there is no such program"},
		{fmt.Errorf("a: %w", &client.Error{Code: 409, Message: "stop it first"}), "stop it first."},
		{fmt.Errorf("a: %w", nats.ErrReconnectBufExceeded), "does not answer any more"},
		{fmt.Errorf("a: %w", context.DeadlineExceeded), "not done in time"},
		{fmt.Errorf("a: %w", source.ErrNoDockerfile), "the folder has no Dockerfile"},
		{fmt.Errorf("deploy /x: pack: %w: \"big\" has 9 bytes", source.ErrTooLarge), "the source is too large: \"big\""},
		{fmt.Errorf("a: b: %w", errors.Join(fmt.Errorf("c: %w", errors.New("disk on fire")), errors.New("other"))), "disk on fire. (--verbose"},
	} {
		got := a.explain(c.err)
		if !strings.Contains(got, c.says) || strings.Contains(got, "secret") || strings.Contains(got, "a: ") {
			t.Errorf("%v: %q, want …%s…", c.err, got, c.says)
		}
	}
}

// TestJudge is the table of exit codes for what came of an event.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name   string
		state  reducer.State
		out    outcome
		waited bool
		wanted func(reducer.State) bool
		code   int
	}{
		{"started", reducer.StateBuilding, outcome{}, false, startWanted, exitDone},
		{"runs", reducer.StateReady, outcome{}, true, startWanted, exitDone},
		{"ends in Error, nobody waits", reducer.StateError, outcome{}, false, startWanted, exitDone},
		{"ends in Error", reducer.StateError, outcome{}, true, startWanted, exitError},
		{"runs already", reducer.StateReady, outcome{Ignored: "x"}, false, startWanted, exitDone},
		{"is stopping, so not started", reducer.StateStopping, outcome{Ignored: "x"}, false, startWanted, exitFailed},
		{"is stopped already", reducer.StateStopped, outcome{Ignored: "x"}, true, stopWanted, exitDone},
		{"is in Error, nothing to stop", reducer.StateError, outcome{Ignored: "x"}, false, stopWanted, exitDone},
		{"cannot restart", reducer.StateStopped, outcome{Ignored: "x"}, false, nothingElse, exitFailed},
		{"cannot restart what is in Error", reducer.StateError, outcome{Ignored: "x"}, true, nothingElse, exitError},
		{"rejected", reducer.StateReady, outcome{Rejected: "x"}, false, startWanted, exitFailed},
	} {
		a, _, _ := testApp(t, globals{})
		c.out.State = &c.state
		if got := a.finish(a.judge("id", c.out, c.waited, c.wanted)); got != c.code {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.code)
		}
	}
}

// TestInterrupt ends a wait as Ctrl-C does: the work goes on.
func TestInterrupt(t *testing.T) {
	handler := effects.NewFakeEffectHandler()
	handler.Delay = time.Hour
	stack := hershtest.Start(t, handler)
	a, out, errOut := testApp(t, globals{Server: stack.Server.URL(), Output: "table"})
	c := client.New(stack.Server.Conn(t))
	id, err := c.Deploy(a.ctx, hershtest.SourceDir(t, nil), "alice", client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	interrupted, interrupt := context.WithCancel(a.ctx)
	watched := make(chan error, 1)
	go func() {
		for step, err := range c.Watch(a.ctx, id, 0) {
			if err != nil || step.To == reducer.StateBuilding {
				watched <- err
				break
			}
		}
		interrupt()
	}()
	waiting := *a
	waiting.ctx = interrupted
	code := waiting.finish((&startCmd{ID: string(id), waitFlags: waitFlags{Wait: true, Timeout: time.Hour}}).Run(&waiting))
	if err := <-watched; err != nil {
		t.Fatal(err)
	}
	if code != exitInterrupted || out.Len() > 0 || !strings.Contains(errOut.String(), "`hersh stop "+short(id)+"` stops the program") {
		t.Errorf("exit code %d, output %q, %q", code, out, errOut)
	}
	if status, err := c.Status(a.ctx, id); err != nil || status.State.State != reducer.StateBuilding {
		t.Errorf("the program is %+v, %v; want it to go on Building", status, err)
	}
	if _, err := c.Stop(a.ctx, id); err != nil { // So that the host does not hold on to the build.
		t.Fatal(err)
	}
}

// TestJudgeNames checks that who waited for a program is sent to output that there can be.
func TestJudgeNames(t *testing.T) {
	failed := reducer.StateError
	for ran, want := range map[bool]string{false: "`hersh logs --build id`", true: "`hersh logs id`"} {
		a, _, errOut := testApp(t, globals{})
		if err := a.judge("id", outcome{State: &failed, ran: ran}, true, startWanted); a.finish(err) != exitError || !strings.Contains(errOut.String(), want) {
			t.Errorf("it ran: %t; %v, %q, want %s", ran, err, errOut, want)
		}
	}
}
