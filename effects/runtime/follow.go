package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	// MaxBatch is the most that a LogSink gets at once, in bytes.
	MaxBatch = 32 << 10

	flushDelay   = 100 * time.Millisecond // How long output may wait for more of it.
	maxLogFile   = 10 << 20               // Bytes after which a log file is put aside; one older file is kept.
	caughtUp     = 1 << 20                // Bytes: a reading that brings less has come close enough to what is being written.
	leastBackoff = 50 * time.Millisecond
	mostBackoff  = 5 * time.Second
)

// LogSink takes the output of builds and programs to where it can be read from afar.
type LogSink interface {
	// ShipLog takes one piece of output of a program, at most MaxBatch bytes. The same key always comes with the same data:
	// a sink that has seen a key may drop the piece. What it returns an error for comes again.
	ShipLog(ctx context.Context, id events.ProgramID, stream events.LogStream, key string, data []byte) error
}

// FollowOpts says whose output to follow, and where to.
type FollowOpts struct {
	ContainerID string
	ProgramID   events.ProgramID
	Attempt     uint64
	Path        string  // The log file. Beside it are the older one (".1") and the cursor (".cursor").
	Sink        LogSink // Optional.
}

// Follow appends the output of a container to a log file, from where an earlier follower of the same container and file
// ended, or else from the start, until the container has ended and all of its output was read. It returns at once: the
// DockerManager owns what goes on. A container that is being followed already is left to its follower. A log file belongs to
// the latest attempt that has been followed to it: the follower of another container is ended before, and an earlier attempt
// is not followed any more.
func (m *DockerManager) Follow(opts FollowOpts) error {
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return fmt.Errorf("follow container %.64q: %w", opts.ContainerID, err)
	}
	opts.Path = path
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("follow container %.64q: %w", opts.ContainerID, ErrClosed)
	}
	if _, found := m.followers[opts.ContainerID]; found {
		return nil
	}
	f := newFollower(m, opts, m.log)
	for _, other := range m.followers {
		if other.opts.Path == path && other.opts.Attempt > opts.Attempt {
			return nil
		}
	}
	for _, other := range m.followers {
		if other.opts.Path == path {
			other.end()
			f.after = append(f.after, other)
		}
	}
	ctx, end := context.WithCancel(m.life)
	f.end = end
	m.followers[opts.ContainerID] = f
	m.running.Go(func() {
		defer end()
		f.run(ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.followers, opts.ContainerID)
		close(f.done)
	})
	return nil
}

// awaitFollower waits until the output of a container was followed to its end, if anybody follows it: for drainTime while
// there is no progress, and for longestDrain in all.
func (m *DockerManager) awaitFollower(ctx context.Context, containerID string) {
	m.mu.Lock()
	f, found := m.followers[containerID]
	m.mu.Unlock()
	if !found {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, longestDrain)
	defer cancel()
	for idle, before := time.Duration(0), f.progress.Load(); idle < drainTime; idle += drainTime / 10 {
		select {
		case <-f.done:
			return
		case <-bounded.Done():
			idle = drainTime
		case <-time.After(drainTime / 10):
			if now := f.progress.Load(); now > before {
				idle, before = 0, now
			}
		}
	}
	m.log.Warn("the end of a container's output may be missing: it could not be written or shipped in time",
		"container", containerID, "program", f.opts.ProgramID)
}

// logs and alive make a DockerManager an outputSource.
func (m *DockerManager) logs(ctx context.Context, id string, since time.Time, follow bool) (io.ReadCloser, error) {
	options := container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow}
	if !since.IsZero() {
		options.Since = since.Format(time.RFC3339Nano)
	}
	stream, err := m.cli.ContainerLogs(ctx, id, options)
	return stream, sortError(ctx, err)
}

func (m *DockerManager) alive(ctx context.Context, id string) (bool, error) {
	full, err := m.inspect(ctx, id)
	if err != nil {
		return false, err
	}
	return full.State.Running || full.State.Restarting, nil
}

// outputSource is what a follower needs of Docker.
type outputSource interface {
	// logs returns the multiplexed output with timestamps, from a time on; zero is all. With follow it goes on until the
	// container ends.
	logs(ctx context.Context, id string, since time.Time, follow bool) (io.ReadCloser, error)
	// alive reports whether there may be more output to come. Its error wraps ErrNoContainer when the container is gone.
	alive(ctx context.Context, id string) (bool, error)
}

// follower copies the output of one container. Its fields belong to the goroutine that runs it, but for end, done and
// progress.
type follower struct {
	source outputSource
	opts   FollowOpts
	log    *slog.Logger
	after  []*follower // Those that must have ended before.
	end    context.CancelFunc
	done   chan struct{}

	progress atomic.Int64 // Grows with what is written and shipped.

	maxFile int64
	file    *logFile
	cur     cursor
	text    []byte // Consumed, and not yet in the file.
	batch   batch  // What the text is made of.
	bytes   int    // What this reading has brought.

}

func newFollower(source outputSource, opts FollowOpts, log *slog.Logger) *follower {
	return &follower{
		source: source, opts: opts, maxFile: maxLogFile, done: make(chan struct{}),
		log: log.With("container", opts.ContainerID, "program", opts.ProgramID, "attempt", opts.Attempt),
	}
}

// run follows until the container has ended and its output was read, or ctx ends.
func (f *follower) run(ctx context.Context) {
	for _, other := range f.after {
		<-other.done
	}
	if f.retry(ctx, "resume the log file", f.resume) != nil {
		return
	}
	defer func() {
		if err := f.file.close(); err != nil {
			f.log.Warn("close log file", "error", err)
		}
	}()
	if f.shipPending(ctx) != nil {
		return
	}
	if f.adopt() {
		f.readAll(ctx)
	}
}

// errReadAnew says that a reading is not to be trusted any further. See position.
var errReadAnew = errors.New("read anew")

// readAll reads again and again, whatever breaks, until a reading has reached the end of a container that is dead. It
// follows only when there is little to catch up with, and catches up again after each reading that is not to be trusted.
func (f *follower) readAll(ctx context.Context) {
	catchUp, told := f.cur.Position.Total > 0, false
	for wait := leastBackoff; ; {
		// Asked before reading: only what ends after the container did has everything.
		alive, err := f.source.alive(ctx, f.opts.ContainerID)
		if errors.Is(err, ErrNoContainer) {
			return
		}
		before := f.cur.Position.Total
		if err == nil {
			err = f.read(ctx, alive && !catchUp)
		}
		if ctx.Err() != nil || err == nil && !alive {
			return
		}
		anew, progress := errors.Is(err, errReadAnew), f.cur.Position.Total > before
		switch {
		case anew:
			catchUp = true
		case err == nil && catchUp:
			catchUp, progress = f.bytes >= caughtUp, true // It has come to its end, as it should.
		case err != nil && !told:
			f.log.Warn("following output was interrupted; trying again", "error", err)
		}
		told = err != nil && !anew
		if progress {
			wait = leastBackoff
		}
		if progress && !told {
			continue
		}
		if !pause.For(ctx, wait) {
			return
		}
		wait = min(2*wait, mostBackoff)
	}
}

// resume opens the log file and cuts it back to what the cursor accounts for.
func (f *follower) resume() (err error) {
	f.cur, err = loadCursor(f.opts.Path)
	if err != nil {
		f.log.Warn("the cursor of a log file is of no use; output may be there twice", "error", err)
		f.cur = cursor{}
	}
	if f.file == nil { // It stays open when what follows has to be tried again.
		if f.file, err = openLogFile(f.opts.Path); err != nil {
			return err
		}
	}
	if f.file.size < f.cur.Offset { // It was put aside, and the cursor could not be told any more.
		f.cur.Offset, f.cur.Pending = f.file.size, nil
	}
	if f.cur.Container == f.opts.ContainerID {
		return f.file.cut(f.cur.Offset)
	}
	return nil
}

// shipPending ships the batch that the cursor holds, also when it is one of another container.
func (f *follower) shipPending(ctx context.Context) error {
	if f.cur.Pending == nil || f.opts.Sink == nil {
		return nil
	}
	whole := logFile{file: f.file.file, size: f.cur.Offset}
	data, err := whole.tail(f.cur.Pending.size())
	if err != nil {
		f.log.Warn("a piece of output cannot be shipped any more", "error", err)
		return nil
	}
	return f.ship(ctx, data)
}

// adopt makes the cursor that of this container, unless the file is that of a later attempt by now.
func (f *follower) adopt() bool {
	if f.cur.Container != f.opts.ContainerID {
		if f.cur.Attempt > f.opts.Attempt {
			return false
		}
		f.cur = cursor{Container: f.opts.ContainerID, Attempt: f.opts.Attempt, Offset: f.file.size}
	}
	f.cur.Pending = nil
	return true
}

// read reads the output once, from the position to the end of the stream.
func (f *follower) read(ctx context.Context, follow bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.source.logs(ctx, f.opts.ContainerID, f.cur.Position.Since, follow)
	if err != nil {
		return err
	}
	messages := make(chan message, 64)
	var copied error
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(messages)
		_, copied = stdcopy.StdCopy(demux{ctx, messages, events.LogStdout}, demux{ctx, messages, events.LogStderr}, &frameReader{stream: stream})
	})
	f.cur.Position.begin()
	f.bytes = 0
	err = f.consume(ctx, messages, follow)
	cancel()
	closeErr := stream.Close()
	reader.Wait()
	if err != nil {
		return err // What broke after it is its consequence.
	}
	if err = errors.Join(copied, closeErr); err == nil && !follow {
		f.cur.Position.end()
	}
	return err
}

// consume takes messages until there are no more. Output reaches the file flushDelay after it came, or when a batch is full.
func (f *follower) consume(ctx context.Context, messages <-chan message, follow bool) error {
	timer := time.NewTimer(flushDelay)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if len(f.text) > 0 {
			due = timer.C
		}
		select {
		case msg, open := <-messages:
			if !open || ctx.Err() != nil {
				return f.flush(ctx)
			}
			p := &f.cur.Position
			if !p.isNew(msg) || follow && p.repeats(msg) {
				continue
			}
			if follow && (p.suspect(msg) || p.reading.fresh >= maxFollowed) {
				return errors.Join(f.flush(ctx), errReadAnew)
			}
			if err := f.take(ctx, msg); err != nil {
				return err
			}
			if len(f.text) == len(msg.text) {
				timer.Reset(flushDelay) // It is the first of a batch.
			}
		case <-due:
			if err := f.flush(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return f.flush(ctx)
		}
	}
}

func (f *follower) take(ctx context.Context, msg message) error {
	if len(f.text)+len(msg.text) > MaxBatch {
		if err := f.flush(ctx); err != nil {
			return err
		}
	}
	f.bytes += len(msg.text)
	f.cur.Position.consume(msg)
	if len(msg.text) > 0 {
		f.batch.add(msg.stream, len(msg.text))
		f.text = append(f.text, msg.text...)
	}
	return nil
}

// flush moves the batch to the file and the cursor over it, then ships it. An error means that ctx ended: what the cursor
// does not have then is read again by the next follower, and what was not shipped is shipped by it.
func (f *follower) flush(ctx context.Context) error {
	if len(f.text) == 0 {
		return nil
	}
	if err := f.retry(ctx, "write the log file", func() error { return f.file.append(f.text) }); err != nil {
		return err
	}
	f.progress.Add(1)
	f.batch.Start = f.cur.Written
	f.cur.Offset = f.file.size
	f.cur.Written += int64(len(f.text))
	if f.opts.Sink != nil {
		f.cur.Pending = &f.batch
	}
	if err := f.retry(ctx, "write the cursor", f.save); err != nil {
		return err
	}
	if f.opts.Sink != nil {
		if err := f.ship(ctx, f.text); err != nil {
			return err
		}
		f.cur.Pending = nil // The next save tells.
	}
	f.text, f.batch = f.text[:0], batch{}
	if f.file.size < f.maxFile {
		return nil
	}
	return f.rotate(ctx)
}

// rotate begins a new file. The cursor must not speak of a pending batch meanwhile, since that is in the old one.
func (f *follower) rotate(ctx context.Context) error {
	if err := f.retry(ctx, "write the cursor", f.save); err != nil {
		return err
	}
	if err := f.retry(ctx, "rotate the log file", f.file.rotate); err != nil {
		return err
	}
	f.cur.Offset = f.file.size
	return f.retry(ctx, "write the cursor", f.save)
}

// ship gives the pending batch, whose text is data, to the sink, until it takes it.
func (f *follower) ship(ctx context.Context, data []byte) error {
	for _, p := range f.cur.Pending.pieces(data) {
		for len(p.data) > 0 { // A piece is larger than MaxBatch when one message is.
			part := p.data[:min(len(p.data), MaxBatch)]
			key := fmt.Sprintf("%s/%d", f.cur.Container, p.offset)
			err := f.retry(ctx, "ship output", func() error {
				ctx, cancel := context.WithTimeout(ctx, quickCall)
				defer cancel()
				return f.opts.Sink.ShipLog(ctx, f.opts.ProgramID, p.stream, key, part)
			})
			if err != nil {
				return err
			}
			f.progress.Add(1)
			p.data, p.offset = p.data[len(part):], p.offset+int64(len(part))
		}
	}
	return nil
}

func (f *follower) save() error { return f.cur.save(f.opts.Path) }

// retry repeats until it works or ctx ends; a full disk or an absent server is no reason to lose output.
func (f *follower) retry(ctx context.Context, what string, do func() error) error {
	for wait := leastBackoff; ; wait = min(2*wait, mostBackoff) {
		err := do()
		if err == nil {
			return nil
		}
		if wait == leastBackoff && ctx.Err() == nil {
			f.log.Warn("cannot "+what+"; trying again", "error", err)
		}
		if !pause.For(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// message is one message of Docker's log: a line, or a piece of a long one.
type message struct {
	at     time.Time
	stream events.LogStream
	text   []byte
}

// index is that of the stream in a position.
func (m message) index() int {
	if m.stream == events.LogStderr {
		return 1
	}
	return 0
}

func (m message) whole() bool { return len(m.text) > 0 && m.text[len(m.text)-1] == '\n' }

// demux turns the writes of stdcopy, each of which is one message, into messages.
type demux struct {
	ctx    context.Context
	to     chan<- message
	stream events.LogStream
}

func (d demux) Write(frame []byte) (int, error) {
	msg, err := parseMessage(frame, d.stream)
	if err != nil {
		return 0, err
	}
	select {
	case d.to <- msg:
		return len(frame), nil
	case <-d.ctx.Done():
		return 0, context.Cause(d.ctx)
	}
}

// parseMessage takes the timestamp off a frame. The text is a copy: stdcopy uses its buffer again.
func parseMessage(frame []byte, stream events.LogStream) (message, error) {
	stamp, text, found := bytes.Cut(frame, []byte(" "))
	if !found {
		return message{}, fmt.Errorf("a message of the output has no timestamp: %.40q", frame)
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return message{}, fmt.Errorf("read the timestamp of a message: %w", err)
	}
	return message{at: at, stream: stream, text: bytes.Clone(text)}, nil
}
