package bustest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryConforms(t *testing.T) {
	bustest.Conformance(t, func(*testing.T) bustest.System {
		m := bustest.NewMemory(bustest.Config{AckWait: 2 * time.Second, Retry: 20 * time.Millisecond, LeaseTTL: 2 * time.Second, HostTTL: 2 * time.Second})
		return bustest.System{
			Bus: m, Restart: m.Restart,
			Spoil: func(id events.ProgramID) { m.SetCheckpoint(id, reducer.Checkpoint{}, false) },
		}
	})
}
