package host

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
)

// recorder is a sink that may be away.
type recorder struct {
	mu    sync.Mutex
	away  bool
	hangs bool
	calls int
	keys  []string
	text  bytes.Buffer
}

func (r *recorder) ShipLog(ctx context.Context, _ events.ProgramID, stream events.LogStream, key string, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if r.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if r.away || stream != events.LogBuild || len(data) > runtime.MaxBatch {
		return errors.New("away")
	}
	r.keys = append(r.keys, key)
	r.text.Write(data)
	return nil
}

func (r *recorder) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func newOutput(r *recorder) *liveOutput {
	return newLiveOutput(context.Background(), r, "p", slog.New(slog.DiscardHandler))
}

func write(t *testing.T, o *liveOutput, text string) {
	t.Helper()
	if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("write gives %d, %v", n, err)
	}
}

func TestLiveOutputComesWhileTheStepIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		o := newOutput(r)
		write(t, o, "Step 1\n")
		write(t, o, "working\n")
		time.Sleep(shipDelay + time.Millisecond) // In virtual time.
		synctest.Wait()
		if r.text.String() != "Step 1\nworking\n" || r.calls != 1 {
			t.Errorf("after the delay the sink has %q, in %d pieces", r.text.String(), r.calls)
		}
		big := strings.Repeat("x", 5*runtime.MaxBatch/2)
		write(t, o, big)
		o.close()
		if want := "Step 1\nworking\n" + big; r.text.String() != want || r.calls != 4 {
			t.Errorf("at the end the sink has %d bytes in %d pieces", r.text.Len(), r.calls)
		}
		seen := map[string]bool{}
		for _, key := range r.keys {
			if seen[key] || !strings.HasPrefix(key, "p/build/") {
				t.Errorf("the keys are %q", r.keys)
			}
			seen[key] = true
		}
	})
}

func TestLiveOutputOfAnEndedBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		ctx, cancel := context.WithCancel(t.Context())
		o := newLiveOutput(ctx, r, "p", slog.New(slog.DiscardHandler))
		cancel()
		write(t, o, "ERROR: stopped\n")
		o.close()
		if r.text.String() != "ERROR: stopped\n" {
			t.Errorf("the sink has %q", r.text.String())
		}
	})
}

func TestLiveOutputWhileTheSinkIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{away: true}
		o := newOutput(r)
		for range maxWaiting/100 + 1000 {
			write(t, o, strings.Repeat("y", 99)+"\n")
		}
		time.Sleep(time.Minute)
		r.set(func() { r.away = false })
		time.Sleep(time.Minute)
		write(t, o, "end\n")
		o.close()
		text := r.text.String()
		if strings.Count(text, leftOut) != 1 || !strings.HasSuffix(text, leftOut+"end\n") || len(text) > maxWaiting+1000 {
			t.Errorf("the sink has %d bytes, which end in %q", len(text), text[max(0, len(text)-200):])
		}
	})
}

func TestLiveOutputGivesUpInTime(t *testing.T) {
	for _, r := range []*recorder{{away: true}, {hangs: true}} {
		synctest.Test(t, func(t *testing.T) {
			o := newOutput(r)
			write(t, o, "text")
			time.Sleep(time.Second)
			begin := time.Now()
			o.close()
			if took := time.Since(begin); took > closeLimit {
				t.Errorf("closing took %s", took)
			}
		})
	}
}
