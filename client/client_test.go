package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/hershtest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestLifecycle(t *testing.T) {
	ctx := testContext(t)
	stack := hershtest.Start(t, nil)
	c := client.New(stack.Server.Conn(t))

	var sent, total int64
	dir := hershtest.SourceDir(t, map[string]string{"main.txt": "hello"})
	id, err := c.Deploy(ctx, dir, "alice", client.DeployOptions{Progress: func(s, n int64) { sent, total = s, n }})
	if err != nil {
		t.Fatal(err)
	}
	if sent == 0 || sent != total {
		t.Errorf("progress ended at %d of %d", sent, total)
	}
	status, err := c.Status(ctx, id)
	if err != nil || status.State.State != reducer.StateCreated || status.Since.IsZero() {
		t.Fatalf("status after deploy: %+v, %v", status, err)
	}

	for _, step := range []struct {
		name  string
		do    func(context.Context, events.ProgramID) (uint64, error)
		state reducer.State
	}{
		{"start", c.Start, reducer.StateReady},
		{"restart", c.Restart, reducer.StateReady},
		{"stop", c.Stop, reducer.StateStopped},
	} {
		seq, err := step.do(ctx, id)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		settled, err := c.WaitSettled(ctx, id, seq)
		if err != nil || settled.State.State != step.state || settled.Ignored != "" {
			t.Fatalf("%s: %+v, %v; want %v", step.name, settled, err, step.state)
		}
	}

	var types []events.Type
	for step, err := range c.History(ctx, id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, step.Type)
	}
	want := []events.Type{
		"ProgramCreated",
		"UserStartRequested", "FoldersEnsured", "BuildFinished", "RuntimeStarted",
		"UserRestartRequested", "StopFinished", "FoldersEnsured", "BuildFinished", "RuntimeStarted",
		"UserStopRequested", "StopFinished",
	}
	if !slices.Equal(types, want) {
		t.Errorf("history: %v, want %v", types, want)
	}

	if err := c.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(ctx, id); !errors.Is(err, client.ErrNoProgram) {
		t.Errorf("status of a deleted program: %v, want ErrNoProgram", err)
	}
	if _, err := c.Start(ctx, id); !errors.Is(err, client.ErrNoProgram) {
		t.Errorf("start of a deleted program: %v, want ErrNoProgram", err)
	}
}
