package runtime_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
)

type lineSink struct{ n, bytes int; first, last string }

func (s *lineSink) ShipLog(_ context.Context, _ events.ProgramID, _ events.LogStream, _ string, data []byte) error {
	if s.n == 0 { s.first = string(data[:20]) }
	s.n += strings.Count(string(data), "\n")
	s.bytes += len(data)
	s.last = string(data[len(data)-13:])
	return nil
}

func TestBig(t *testing.T) {
	b := newBench(t)
	s := &lineSink{}
	begin := time.Now()
	r, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(b.image(strings.Split(strings.Repeat("long 100000 ", 400)+"say end", " ")...)), RuntimeLogPath: b.log, LogSink: s})
	if err != nil { t.Fatal(err) }
	b.waitEnd(r.ContainerID)
	t.Log("ended", time.Since(begin))
	b.Stop(t.Context(), r.ContainerID)
	t.Log("stopped", time.Since(begin), s.n, s.bytes, s.first, s.last)
}
