package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/pkg/stdcopy"
	"pgregory.net/rapid"

	"github.com/rlaaudgjs5638/hersh/events"
)

// fakeOutput is the output of a container as a Docker daemon keeps it.
type fakeOutput struct {
	mu       sync.Mutex
	messages []message
	kept     int  // Messages before it were thrown away.
	written  int  // Messages from it on are still to come.
	dead     bool // Nothing is to come any more.
	gone     bool // The container was removed.
	// everyOld: messages older than since are left out wherever they are, as Engine 20.10 does it; else only those before the
	// first that is not.
	everyOld bool
	breakAt  int // The next streams break off after so many messages,
	breaks   int // and so many of them do.
	changed  chan struct{}
	// replays: after a message, a follower gets so many again, as by Engine 20.10 when it puts a file aside. Each once.
	replays map[int]int
	// gaps: before a message, a follower misses so many, as with Engine 20.10 when it is slow. Each once.
	gaps map[int]int
}

func newFakeOutput(messages []message) *fakeOutput {
	return &fakeOutput{messages: messages, changed: make(chan struct{})}
}

// set changes the output and wakes up who follows it.
func (o *fakeOutput) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *fakeOutput) alive(context.Context, string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return false, ErrNoContainer
	}
	return !o.dead, nil
}

func (o *fakeOutput) logs(ctx context.Context, _ string, since time.Time, follow bool) (io.ReadCloser, error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(o.send(ctx, writer, since, follow)) }()
	return reader, nil
}

func (o *fakeOutput) send(ctx context.Context, w io.Writer, since time.Time, follow bool) error {
	o.mu.Lock()
	next, there := o.kept, o.written // What is there already comes from the files as they are.
	o.mu.Unlock()
	passed := false
	for sent := 0; ; {
		o.mu.Lock()
		written, dead, changed := o.written, o.dead, o.changed
		o.mu.Unlock()
		for ; next < written; next++ {
			if follow && next >= there {
				if next += o.gap(next); next >= written {
					break
				}
			}
			msg := o.messages[next]
			if msg.at.Before(since) && (o.everyOld || !passed) {
				continue
			}
			passed = true
			if sent++; sent > o.breakAt && o.breaksNow() {
				return io.ErrUnexpectedEOF
			}
			if err := sendMessage(w, msg); err != nil {
				return err
			}
			if follow && next >= there {
				next -= o.replay(next, there)
			}
		}
		if dead || !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// replay returns how many messages before and including the i-th are sent again. They are of a file that was begun during
// the reading, so none is from before it. That the last piece of an unfinished line, and no piece before it, comes again does
// not happen here: it cannot be told from a line that goes on with more of the same.
func (o *fakeOutput) replay(i, first int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	back := min(o.replays[i], i+1-first)
	delete(o.replays, i)
	for _, stream := range []events.LogStream{events.LogStdout, events.LogStderr} {
		var pieces int
		var open time.Time
		for _, last := range slices.Backward(o.messages[:i+1]) {
			if last.stream == stream {
				if !last.whole() {
					open = last.at
				}
				break
			}
		}
		for _, msg := range o.messages[i+1-back : i+1] {
			if msg.stream == stream && msg.at.Equal(open) {
				pieces++
			}
		}
		if pieces == 1 {
			return 0
		}
	}
	return back
}

func (o *fakeOutput) gap(i int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	missed := o.gaps[i]
	delete(o.gaps, i)
	return missed
}

func (o *fakeOutput) breaksNow() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.breaks--
	return o.breaks >= 0
}

func sendMessage(w io.Writer, msg message) error {
	kind := stdcopy.Stdout
	if msg.stream == events.LogStderr {
		kind = stdcopy.Stderr
	}
	line := msg.at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + string(msg.text)
	_, err := stdcopy.NewStdWriter(w, kind).Write([]byte(line))
	return err
}

// fakeSink keeps what it is given by its key, as a server does that drops what it has seen.
type fakeSink struct {
	mu     sync.Mutex
	byKey  map[string][]byte
	order  []string
	stream map[string]events.LogStream
	fault  error
	before func(piece []byte) error // Called first; its error is what ShipLog returns.
	after  func()
}

func newFakeSink() *fakeSink {
	return &fakeSink{byKey: map[string][]byte{}, stream: map[string]events.LogStream{}}
}

func (s *fakeSink) ShipLog(_ context.Context, _ events.ProgramID, stream events.LogStream, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		if err := s.before(data); err != nil {
			return err
		}
	}
	if len(data) == 0 || len(data) > MaxBatch {
		s.fault = fmt.Errorf("a piece of %d bytes", len(data))
	}
	if seen, found := s.byKey[key]; found {
		if !bytes.Equal(seen, data) || s.stream[key] != stream {
			s.fault = fmt.Errorf("key %s came with %q and with %q", key, seen, data)
		}
	} else {
		s.byKey[key], s.stream[key] = bytes.Clone(data), stream
		s.order = append(s.order, key)
	}
	if s.after != nil {
		s.after()
	}
	return nil
}

func (s *fakeSink) text(stream events.LogStream) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all strings.Builder
	for _, key := range s.order {
		if stream == "" || s.stream[key] == stream {
			all.Write(s.byKey[key])
		}
	}
	return all.String()
}

var quiet = slog.New(slog.DiscardHandler)

func textOf(messages []message, stream events.LogStream) string {
	var all strings.Builder
	for _, msg := range messages {
		if stream == "" || msg.stream == stream {
			all.Write(msg.text)
		}
	}
	return all.String()
}

// output generates what two copiers make of what a program prints: lines whose times may be a little out of order between
// the streams, and long lines in pieces that all have the time of the first, however late they come.
func output(rt *rapid.T) []message {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	streams := []events.LogStream{events.LogStdout, events.LogStderr}
	var open [2]time.Time
	var all []message
	for i := range rapid.IntRange(0, 120).Draw(rt, "messages") {
		step := rapid.SampledFrom([]time.Duration{0, 1, time.Microsecond, time.Millisecond, time.Second, 3 * time.Second}).Draw(rt, "step")
		now = now.Add(step)
		which := rapid.IntRange(0, 1).Draw(rt, "stream")
		at := now.Add(-rapid.SampledFrom([]time.Duration{0, 0, 0, time.Microsecond, time.Second}).Draw(rt, "late"))
		if !open[which].IsZero() {
			at = open[which]
		}
		text := fmt.Sprintf("%d:%s", i, strings.Repeat("x", rapid.IntRange(0, 40).Draw(rt, "length")))
		open[which] = time.Time{}
		if rapid.IntRange(0, 3).Draw(rt, "partial") == 0 {
			open[which] = at
		} else {
			text += "\n"
		}
		all = append(all, message{at: at, stream: streams[which], text: []byte(text)})
	}
	return all
}

// snapshot copies the files of a log, as they are when the process is killed.
func snapshot(t *testing.T, path string) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "runtime.log")
	for _, suffix := range []string{"", rotatedSuffix, cursorSuffix} {
		data, err := os.ReadFile(path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(copied+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// followUntil runs a follower until the output is read to its end or stop is called from inside.
func followUntil(source outputSource, opts FollowOpts, maxFile int64, start func(stop func())) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	start(cancel)
	f := newFollower(source, opts, quiet)
	f.maxFile = maxFile
	f.run(ctx)
}

func readAll(t interface{ Fatal(...any) }, path string) string {
	var all []byte
	for _, name := range []string{path + rotatedSuffix, path} {
		data, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return string(all)
}

// life is what happens to the follower of one output.
type life struct {
	messages []message
	everyOld bool
	breakAt  int
	breaks   int
	replays  map[int]int
	maxFile  int64
	parts    []part
}

// part is the life of one process.
type part struct {
	written int           // So many messages are there by then.
	batches int           // It is killed with so many batches written,
	lost    bool          // before the sink gets the last one, or after,
	garbage int           // with so many bytes of the next one in the file.
	time    time.Duration // Or it is closed after this time.
}

func drawLife(rt *rapid.T) life {
	l := life{
		messages: output(rt),
		everyOld: rapid.Bool().Draw(rt, "everyOld"),
		breakAt:  rapid.IntRange(0, 50).Draw(rt, "breakAt"),
		breaks:   rapid.IntRange(0, 5).Draw(rt, "breaks"),
		replays:  map[int]int{},
		maxFile:  rapid.SampledFrom([]int64{200, 1 << 20}).Draw(rt, "maxFile"),
	}
	for range rapid.IntRange(0, 5).Draw(rt, "replays") {
		l.replays[rapid.IntRange(0, 120).Draw(rt, "after")] = rapid.IntRange(1, 60).Draw(rt, "back")
	}
	for written := 0; written < len(l.messages) && len(l.parts) < 8; {
		written = rapid.IntRange(written+1, len(l.messages)).Draw(rt, "written")
		l.parts = append(l.parts, part{
			written: written,
			batches: rapid.IntRange(1, 8).Draw(rt, "batches"),
			lost:    rapid.Bool().Draw(rt, "lost"),
			garbage: rapid.IntRange(0, 30).Draw(rt, "garbage"),
			time:    time.Duration(rapid.IntRange(0, 300).Draw(rt, "ms")) * time.Millisecond,
		})
	}
	return l
}

func (l life) source() *fakeOutput {
	source := newFakeOutput(l.messages)
	source.everyOld, source.breakAt, source.breaks = l.everyOld, l.breakAt, l.breaks
	source.replays = maps.Clone(l.replays)
	return source
}

// TestFollowerSurvivesKills kills followers at the moments that matter: with a batch in the file and the cursor but not at
// the sink, with the sink's answer lost, and with a part of the next batch in the file already.
func TestFollowerSurvivesKills(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := drawLife(rt)
		sink := newFakeSink()
		logged := ""
		synctest.Test(t, func(t *testing.T) { logged = killFollowers(t, l, sink) })
		checkOutput(rt, sink, l.messages, logged, l.maxFile)
	})
}

func killFollowers(t *testing.T, l life, sink *fakeSink) string {
	source := l.source()
	path := filepath.Join(t.TempDir(), "runtime.log")
	for _, p := range l.parts {
		time.AfterFunc(p.time, func() { source.set(func() { source.written = max(source.written, p.written) }) })
		killed, left := "", p.batches
		followUntil(source, FollowOpts{ContainerID: "c1", Path: path, Sink: sink}, l.maxFile, func(stop func()) {
			kill := func() {
				if left--; left == 0 {
					killed = snapshot(t, path)
					stop()
				}
			}
			sink.before = func([]byte) error {
				if left > 0 && p.lost {
					kill()
				}
				if left <= 0 {
					return errors.New("the process is dead")
				}
				return nil
			}
			sink.after = func() {
				if !p.lost {
					kill()
				}
			}
			time.AfterFunc(time.Minute, stop) // When there is not that much left to ship.
		})
		source.set(func() { source.written = max(source.written, p.written) })
		if killed != "" {
			path = killed
			appendFile(t, path, strings.Repeat("?", p.garbage))
		}
	}
	sink.before, sink.after = nil, nil
	source.set(func() { source.written, source.dead = len(l.messages), true })
	followUntil(source, FollowOpts{ContainerID: "c1", Path: path, Sink: sink}, l.maxFile, func(func()) {})
	return readAll(t, path)
}

func appendFile(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = file.WriteString(text)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func checkOutput(rt *rapid.T, sink *fakeSink, messages []message, logged string, maxFile int64) {
	if sink.fault != nil {
		rt.Fatal(sink.fault)
	}
	want := textOf(messages, "")
	switches := 0
	for i := 1; i < len(messages); i++ {
		if messages[i].stream != messages[i-1].stream {
			switches++
		}
	}
	if got := sink.text(""); got != want && switches < maxRuns {
		rt.Fatalf("the sink got\n%q\nwant\n%q", got, want)
	}
	for _, stream := range []events.LogStream{events.LogStdout, events.LogStderr} {
		if got := sink.text(stream); got != textOf(messages, stream) {
			rt.Fatalf("the sink got on %s\n%q\nwant\n%q", stream, got, textOf(messages, stream))
		}
	}
	if maxFile > int64(len(want)) && logged != want || !strings.HasSuffix(want, logged) {
		rt.Fatalf("the log has\n%q\nwant\n%q", logged, want)
	}
}

// TestFollowerWithoutSink closes followers, which then write what they have.
func TestFollowerWithoutSink(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := drawLife(rt)
		logged := ""
		synctest.Test(t, func(t *testing.T) {
			source := l.source()
			opts := FollowOpts{ContainerID: "c1", Path: filepath.Join(t.TempDir(), "runtime.log")}
			for _, p := range l.parts {
				followUntil(source, opts, 1<<20, func(stop func()) {
					time.AfterFunc(p.time/2, func() { source.set(func() { source.written = max(source.written, p.written) }) })
					time.AfterFunc(p.time, stop)
				})
				source.set(func() { source.written = max(source.written, p.written) })
			}
			source.set(func() { source.written, source.dead = len(l.messages), true })
			followUntil(source, opts, 1<<20, func(func()) {})
			logged = readAll(t, opts.Path)
		})
		if want := textOf(l.messages, ""); logged != want {
			rt.Fatalf("the log has\n%q\nwant\n%q", logged, want)
		}
	})
}

// TestFollowerMakesUpForGaps has the daemon leave out messages. They come late, but they come, and once.
func TestFollowerMakesUpForGaps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := drawLife(rt)
		gaps := map[int]int{}
		for range rapid.IntRange(1, 5).Draw(rt, "gaps") {
			gaps[rapid.IntRange(0, 120).Draw(rt, "before")] = rapid.IntRange(1, 30).Draw(rt, "missed")
		}
		sink := newFakeSink()
		logged := ""
		synctest.Test(t, func(t *testing.T) {
			source := l.source()
			source.gaps, source.replays = gaps, nil
			opts := FollowOpts{ContainerID: "c1", Path: filepath.Join(t.TempDir(), "runtime.log"), Sink: sink}
			followUntil(source, opts, 1<<20, func(func()) {
				wait := time.Duration(0)
				for _, p := range l.parts {
					wait += p.time
					time.AfterFunc(wait, func() { source.set(func() { source.written = max(source.written, p.written) }) })
				}
				time.AfterFunc(wait+time.Second, func() { source.set(func() { source.written, source.dead = len(l.messages), true }) })
			})
			logged = readAll(t, opts.Path)
		})
		want := sortedPieces(textOf(l.messages, ""))
		if got := sortedPieces(logged); !slices.Equal(got, want) {
			rt.Fatalf("the log has\n%q\nwant\n%q", got, want)
		}
		if got := sortedPieces(sink.text("")); sink.fault != nil || !slices.Equal(got, want) {
			rt.Fatalf("the sink has\n%q, %v\nwant\n%q", got, sink.fault, want)
		}
	})
}

// sortedPieces takes a log apart into the messages of output.
func sortedPieces(log string) []string {
	pieces := regexp.MustCompile(`\d+:x*\n?`).FindAllString(log, -1)
	slices.Sort(pieces)
	return pieces
}

// lines makes messages a second apart.
func lines(from, to int) (all []message) {
	for i := from; i < to; i++ {
		at := time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC)
		all = append(all, message{at: at, stream: events.LogStdout, text: fmt.Appendf(nil, "line %d\n", i)})
	}
	return all
}

func TestFollowerWhenDockerThrewOutputAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeOutput(lines(0, 50))
		path := filepath.Join(t.TempDir(), "runtime.log")
		opts := FollowOpts{ContainerID: "c1", Path: path}
		source.written = 10
		followUntil(source, opts, 1<<20, func(stop func()) { time.AfterFunc(time.Minute, stop) })
		source.written, source.kept = 30, 9
		followUntil(source, opts, 1<<20, func(stop func()) { time.AfterFunc(time.Minute, stop) })
		source.written, source.kept, source.dead = 50, 35, true
		followUntil(source, opts, 1<<20, func(func()) {})
		if got, want := readAll(t, path), textOf(lines(0, 30), "")+textOf(lines(35, 50), ""); got != want {
			t.Errorf("the log has\n%s\nwant\n%s", got, want)
		}
	})
}

// The clock is set back under the eyes of a follower that reads from the start. (One that reads from a later time is not
// told of older messages by Engine 20.10, and cannot do anything about it.)
func TestFollowerWhenClockIsSetBack(t *testing.T) {
	for _, everyOld := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			messages := append(lines(20, 40), lines(0, 30)...)
			source := newFakeOutput(messages)
			source.everyOld = everyOld
			path := filepath.Join(t.TempDir(), "runtime.log")
			time.AfterFunc(time.Second, func() { source.set(func() { source.written = 21 }) })
			for _, source.written = range []int{20, 22, 30, 45, 50} {
				source.dead = source.written == len(messages)
				followUntil(source, FollowOpts{ContainerID: "c1", Path: path}, 1<<20, func(stop func()) {
					time.AfterFunc(time.Minute, stop)
				})
			}
			if got, want := readAll(t, path), textOf(messages, ""); got != want {
				t.Errorf("everyOld %t: the log has\n%s\nwant\n%s", everyOld, got, want)
			}
		})
	}
}

func TestFollowerShipsWhatAnotherContainerLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "runtime.log")
		sink := newFakeSink()
		first, second := newFakeOutput(lines(0, 5)), newFakeOutput(lines(5, 9))
		first.written, first.dead, second.written, second.dead = 5, true, 4, true
		sink.before = func([]byte) error { return errors.New("the server is away") }
		followUntil(first, FollowOpts{ContainerID: "c1", Path: path, Sink: sink}, 1<<20, func(stop func()) {
			time.AfterFunc(time.Hour, stop)
		})
		sink.before = nil
		followUntil(second, FollowOpts{ContainerID: "c2", Attempt: 1, Path: path, Sink: sink}, 1<<20, func(func()) {})
		want := textOf(lines(0, 9), "")
		if got := sink.text(""); got != want || readAll(t, path) != want {
			t.Errorf("the sink has\n%s\nthe log\n%s\nwant\n%s", got, readAll(t, path), want)
		}
		followUntil(first, FollowOpts{ContainerID: "c1", Path: path, Sink: sink}, 1<<20, func(func()) {})
		if got := readAll(t, path); got != want {
			t.Errorf("following an earlier attempt again leaves\n%s", got)
		}
		if _, found := sink.byKey["c1/0"]; !found || sink.order[1] != "c2/0" {
			t.Errorf("the keys are %q", sink.order)
		}
	})
}

func TestFollowerShipsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeOutput(append(lines(0, 20), message{
			at: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), stream: events.LogStdout, text: bytes.Repeat([]byte("y"), 3*MaxBatch/2),
		}))
		sink := newFakeSink()
		begin := time.Now()
		var shipped []time.Duration
		sink.after = func() { shipped = append(shipped, time.Since(begin)) }
		followUntil(source, FollowOpts{ContainerID: "c1", Path: filepath.Join(t.TempDir(), "l"), Sink: sink}, 1<<20, func(func()) {
			for i := range 20 { // One line each 30 ms.
				time.AfterFunc(time.Duration(i)*30*time.Millisecond, func() { source.set(func() { source.written++ }) })
			}
			time.AfterFunc(time.Second, func() { source.set(func() { source.written++; source.dead = true }) })
		})
		if shipped[0] != flushDelay || len(shipped) < 4 || len(shipped) > 9 {
			t.Errorf("batches came at %v", shipped)
		}
		if sink.fault != nil || sink.text("") != textOf(source.messages, "") {
			t.Errorf("the sink got %d bytes, %v", len(sink.text("")), sink.fault)
		}
	})
}

func TestFollowerEndsWithoutContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeOutput(lines(0, 5))
		source.gone = true
		path := filepath.Join(t.TempDir(), "runtime.log")
		followUntil(source, FollowOpts{ContainerID: "c1", Path: path}, 1<<20, func(func()) {})
		if got := readAll(t, path); got != "" {
			t.Errorf("the log has %q", got)
		}
	})
}

func TestFollowerWithUselessCursor(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"container":"c1","offset":-1}`, `{"container":"c1","offset":3,"pending":{"first":"stdout","sizes":[4]}}`,
		`{"container":"c1","offset":3,"pending":{"first":"stdout","sizes":[4,-1]}}`} {
		synctest.Test(t, func(t *testing.T) {
			source := newFakeOutput(lines(0, 5))
			source.written, source.dead = 5, true
			path := filepath.Join(t.TempDir(), "runtime.log")
			appendFile(t, path, "before\n")
			appendFile(t, path+cursorSuffix, text)
			followUntil(source, FollowOpts{ContainerID: "c1", Path: path}, 1<<20, func(func()) {})
			if got, want := readAll(t, path), "before\n"+textOf(lines(0, 5), ""); got != want {
				t.Errorf("with cursor %q the log has %q", text, got)
			}
		})
	}
}

func TestFollowerWaitsForDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeOutput(lines(0, 5))
		source.written, source.dead = 5, true
		dir := filepath.Join(t.TempDir(), "later")
		path := filepath.Join(dir, "runtime.log")
		time.AfterFunc(time.Minute, func() {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Error(err)
			}
		})
		followUntil(source, FollowOpts{ContainerID: "c1", Path: path}, 1<<20, func(func()) {})
		if got, want := readAll(t, path), textOf(lines(0, 5), ""); got != want {
			t.Errorf("the log has %q", got)
		}
		for _, name := range []string{path, path + cursorSuffix} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the mode of %s is %v, %v", name, info.Mode(), err)
			}
		}
	})
}

func TestPieces(t *testing.T) {
	var b batch
	var text strings.Builder
	add := func(stream events.LogStream, s string) {
		b.add(stream, len(s))
		text.WriteString(s)
	}
	show := func() string {
		var all []string
		for _, p := range b.pieces([]byte(text.String())) {
			all = append(all, fmt.Sprintf("%s@%d:%s", p.stream, p.offset, p.data))
		}
		return strings.Join(all, " ")
	}
	b.Start = 100
	add(events.LogStderr, "a")
	add(events.LogStderr, "b")
	add(events.LogStdout, "cd")
	add(events.LogStderr, "e")
	if got, want := show(), "stderr@100:ab stdout@102:cd stderr@104:e"; got != want {
		t.Errorf("the pieces are %s, want %s", got, want)
	}
	for range maxRuns / 2 {
		add(events.LogStdout, "o")
		add(events.LogStderr, "e")
	}
	if got, want := show(), "stderr@100:abeeeeeeeee stdout@102:cdoooooooo"; got != want {
		t.Errorf("the pieces are %s, want %s", got, want)
	}
}

func TestParseMessage(t *testing.T) {
	for _, frame := range []string{"", "no", "x y", "2026-01-02T03:04:05.000000000Z"} {
		if msg, err := parseMessage([]byte(frame), events.LogStdout); err == nil {
			t.Errorf("%q gives %+v", frame, msg)
		}
	}
	msg, err := parseMessage([]byte("2026-01-02T03:04:05.000000006Z  two words\n"), events.LogStderr)
	if err != nil || string(msg.text) != " two words\n" || msg.at.Nanosecond() != 6 || !msg.whole() {
		t.Errorf("got %+v, %v", msg, err)
	}
}
