package bus_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline bounds every wait of these tests; it is far more than anything takes.
const deadline = 30 * time.Second

func TestNATSConforms(t *testing.T) {
	t.Parallel()
	bustest.Conformance(t, func(t *testing.T) bustest.System {
		srv := natstest.Start(t)
		b := hasty(t, srv)
		return bustest.System{
			Bus: b, Restart: func() { srv.Restart(t) },
			Spoil: func(id events.ProgramID) { spoil(t, srv, id, "{") },
		}
	})
}

// hasty returns a provisioned bus whose waits are short.
func hasty(t *testing.T, srv *natstest.Server, change ...func(*bus.Bus)) *bus.Bus {
	t.Helper()
	b, err := bus.New(srv.Conn(t), natstest.Log(t), bus.Options{HostTTL: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	b.Hasten()
	for _, fn := range change {
		fn(b)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := b.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// spoil puts anything in the place of a program's checkpoint.
func spoil(t *testing.T, srv *natstest.Server, id events.ProgramID, value string) {
	t.Helper()
	js, err := srv.Conn(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(events.BucketPrograms)
	if err == nil {
		_, err = kv.PutString(events.CheckpointKey(id), value)
	}
	if err != nil {
		t.Fatal(err)
	}
}
