package host

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	shipDelay  = 100 * time.Millisecond // How long output may wait for more of it.
	shipLimit  = 10 * time.Second       // For one try to ship.
	closeLimit = 5 * time.Second        // For what is left at the end of a build.
	maxWaiting = 1 << 20                // Bytes that may wait for the sink.
	leftOut    = "\n(output was left out here; all of it is in the build log on the host)\n"
)

// liveOutput ships the output of a build while it comes. It never holds up the build: what the sink does not take in time is
// left out, since the whole output is in the build log. Its key has a part of its own, so that the output of a build that
// is tried again is not taken for a repetition.
type liveOutput struct {
	sink runtime.LogSink
	id   events.ProgramID
	key  string
	log  *slog.Logger

	ctx  context.Context // Of shipping, which goes on for a while after that of the build has ended.
	end  context.CancelFunc
	done chan struct{} // Closed by the goroutine when it ends.

	mu     sync.Mutex
	buf    []byte
	gap    bool          // Something was left out at the end of buf.
	more   chan struct{} // There is something in buf.
	closed chan struct{}
}

func newLiveOutput(ctx context.Context, sink runtime.LogSink, id events.ProgramID, log *slog.Logger) *liveOutput {
	shipping, end := context.WithCancel(context.WithoutCancel(ctx))
	o := &liveOutput{
		sink: sink, id: id, key: fmt.Sprintf("%s/build/%s", id, rand.Text()), log: log, ctx: shipping, end: end,
		done: make(chan struct{}), more: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	go o.run()
	return o
}

// Write implements io.Writer. It never fails and never waits.
func (o *liveOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case len(o.buf)+len(p) <= maxWaiting:
		o.buf, o.gap = append(o.buf, p...), false
	case !o.gap:
		o.buf, o.gap = append(o.buf, leftOut...), true
	}
	select {
	case o.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// close ships what is left, within closeLimit.
func (o *liveOutput) close() {
	close(o.closed)
	timer := time.AfterFunc(closeLimit, o.end)
	<-o.done
	timer.Stop()
	o.end()
}

func (o *liveOutput) run() {
	defer close(o.done)
	for n, last := 0, false; !last; {
		select {
		case <-o.more:
		case <-o.closed:
		}
		select { // More of it may be on its way.
		case <-o.closed:
			last = true
		case <-time.After(shipDelay):
		}
		for piece := o.take(); len(piece) > 0; piece = o.take() {
			if err := o.ship(fmt.Sprintf("%s/%d", o.key, n), piece); err != nil {
				return
			}
			n++
		}
	}
}

func (o *liveOutput) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := min(len(o.buf), runtime.MaxBatch)
	piece := append([]byte(nil), o.buf[:size]...)
	o.buf = append(o.buf[:0], o.buf[size:]...)
	return piece
}

// ship tries until the sink takes the piece. Its error says that there is no time left.
func (o *liveOutput) ship(key string, piece []byte) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		ctx, cancel := context.WithTimeout(o.ctx, shipLimit)
		err := o.sink.ShipLog(ctx, o.id, events.LogBuild, key, piece)
		cancel()
		if err == nil {
			return nil
		}
		if wait == firstRetry {
			o.log.Warn("cannot ship the output of a build", "program", o.id, "error", err)
		}
		if !pause.For(o.ctx, wait) {
			return o.ctx.Err()
		}
	}
}
