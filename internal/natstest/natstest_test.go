package natstest_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRestartKeepsWhatWasStored(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	srv := natstest.Start(t)
	b := srv.Bus(t)
	beat := events.Heartbeat{HostID: "h1"}
	if err := b.Beat(ctx, beat); err != nil {
		t.Fatal(err)
	}

	srv.Restart(t)
	srv.Restart(t)

	hosts, err := srv.Bus(t).Hosts(ctx)
	if err != nil || len(hosts) != 1 || hosts[0].HostID != "h1" {
		t.Fatalf("hosts after restarts: %v, %v; want h1", hosts, err)
	}
	if err := b.Ping(ctx); err != nil {
		t.Errorf("the connection of before did not come back: %v", err)
	}
}
