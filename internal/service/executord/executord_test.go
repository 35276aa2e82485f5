package executord_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/service"
	"github.com/rlaaudgjs5638/hersh/internal/service/executord"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// complaints counts by level what is said of a Docker that does not answer, and calls enough after the third time.
type complaints struct {
	slog.Handler
	enough context.CancelFunc

	mu     sync.Mutex
	levels []slog.Level
}

func (c *complaints) Enabled(context.Context, slog.Level) bool { return true }

func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.Contains(r.Message, "Docker does not answer") {
		c.levels = append(c.levels, r.Level)
	}
	if len(c.levels) == 3 {
		c.enough()
	}
	return nil
}

// TestDockerAwayIsSaidOnce starts an executor where no Docker is: it warns once, and tries on quietly.
func TestDockerAwayIsSaidOnce(t *testing.T) {
	server := natstest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := &complaints{Handler: slog.DiscardHandler, enough: cancel}
	_, err := executord.Start(ctx, server.Conn(t), executord.Options{
		HostID: "h1", Dir: t.TempDir(), Runtime: "runsc", DockerHost: "unix://" + filepath.Join(t.TempDir(), "no.sock"),
		BuildSlots: 1, RunSlots: 1, Log: slog.New(said), Registry: service.NewRegistry(),
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v, want it to try until the end", err)
	}
	if len(said.levels) != 3 || said.levels[0] != slog.LevelWarn || said.levels[1] != slog.LevelDebug || said.levels[2] != slog.LevelDebug {
		t.Errorf("said at %v, want a warning and then debug messages", said.levels)
	}
}
