package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
	"github.com/rlaaudgjs5638/hersh/internal/source"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	startupWait   = 3 * time.Minute
	provisionWait = 20 * time.Second // For all streams; the first requests may be lost while there is no leader.
	ackTail       = time.Minute      // How long users wait for what they published last.
	restWait      = 3 * time.Minute  // How long the system may take to come to rest: a sweep, a comparison, a redelivery, and waits between.
)

// Options say how long and how wild a run is.
type Options struct {
	Dir      string // Folder of all files.
	Seed     uint64
	Duration time.Duration // Of the faults; coming to rest comes after.
	Fault    string        // Only faults of this kind, each alone; "" is all kinds.
	HostTTL  time.Duration // At least 10 s.
	Disks    bool          // NATS servers stand on disks of package disk, so that these can fail too.
	Docker   bool          // A fourth executor is on real Docker, with runc, and has its part of the programs.
	Programs int
	Pace     time.Duration // Mean time between two publications of one user.
	Tell     func(format string, args ...any)
}

// Run starts a whole Hersh, lets users and the nemesis loose on it, and says what became of it. It kills everything that it
// started.
func Run(ctx context.Context, o Options) (Report, error) {
	system, err := startSystem(ctx, o)
	if err != nil {
		return Report{}, err
	}
	defer system.Stop()
	nc, err := connect(ctx, system.cluster.URL())
	if err != nil {
		return Report{}, err
	}
	defer nc.Close()
	b, err := bus.New(nc, slog.New(slog.DiscardHandler), bus.Options{Replicas: servers, HostTTL: o.HostTTL})
	if err != nil {
		return Report{}, err
	}
	digest, err := upload(ctx, b, o)
	if err != nil {
		return Report{}, err
	}
	ids, err := create(ctx, b, digest, o.Programs)
	if err != nil {
		return Report{}, err
	}
	js, err := nc.JetStream()
	if err != nil {
		return Report{}, err
	}
	c := &checker{bus: b, nc: nc, system: system, ids: ids, seed: o.Seed, watch: newWatch(system), users: &users{nc: nc, programs: ids, pace: o.Pace}}
	c.enemy = &nemesis{system: system, js: js, settled: c.settled, tell: o.Tell, killed: map[string]bool{}}
	if err := c.enemy.limit(o.Fault); err != nil {
		return Report{}, err
	}
	c.wreck(ctx, o)
	if ctx.Err() != nil {
		return Report{}, ctx.Err()
	}
	return c.report(ctx, o)
}

func connect(ctx context.Context, url string) (nc *nats.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, startupWait)
	defer cancel()
	for {
		nc, err = nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.ReconnectBufSize(-1),
			nats.PingInterval(2*time.Second))
		if err == nil || !pause.For(ctx, healthEvery) {
			return nc, err
		}
	}
}

// upload makes the streams and uploads the source of all programs, which only real Docker looks at: a program that waits for SIGTERM.
func upload(ctx context.Context, b *bus.Bus, o Options) (events.SourceDigest, error) {
	ctx, cancel := context.WithTimeout(ctx, startupWait)
	defer cancel()
	for provision(ctx, b) != nil { // As the supervisors do: nothing may be hurt that is not there yet.
		if !pause.For(ctx, time.Second) {
			return "", ctx.Err()
		}
	}
	dir := filepath.Join(o.Dir, "source")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if _, err := Build(ctx, dir, module+"/internal/chaos/container"); err != nil {
		return "", err
	}
	dockerfile := "FROM scratch\nCOPY internal-chaos-container /program\nENTRYPOINT [\"/program\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return "", err
	}
	var tarball bytes.Buffer
	digest, err := source.Pack(ctx, &tarball, dir)
	if err != nil {
		return "", err
	}
	for i := range userCount {
		for {
			err := b.PutSource(ctx, user(i), digest, bytes.NewReader(tarball.Bytes()))
			if err == nil {
				break
			}
			if !pause.For(ctx, time.Second) {
				return "", errors.Join(ctx.Err(), err)
			}
		}
	}
	return digest, nil
}

func user(i int) events.UserID { return events.UserID(fmt.Sprintf("user-%d", i%userCount)) }

// create makes programs.
func create(ctx context.Context, b *bus.Bus, digest events.SourceDigest, programs int) ([]events.ProgramID, error) {
	ctx, cancel := context.WithTimeout(ctx, startupWait)
	defer cancel()
	build, err := events.NewBuildID(digest)
	if err != nil {
		return nil, err
	}
	var ids []events.ProgramID
	for i := range programs {
		id := events.NewProgramID(user(i), build)
		for {
			err := createOnce(ctx, b, id, events.ProgramCreated{BuildID: build, SourceDigest: digest})
			if err == nil {
				break
			}
			if !pause.For(ctx, time.Second) {
				return nil, errors.Join(ctx.Err(), err)
			}
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func provision(ctx context.Context, b *bus.Bus) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	return b.Provision(ctx)
}

// createOnce gives up soon: a request that no leader heard is never answered.
func createOnce(ctx context.Context, b *bus.Bus, id events.ProgramID, first events.ProgramCreated) error {
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	return b.Create(ctx, id, first)
}

// wreck is the part with the faults. When it returns, everything is put right and nobody publishes any more.
func (c *checker) wreck(ctx context.Context, o Options) {
	watchCtx, endWatch := context.WithCancel(ctx)
	defer endWatch()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer endWatch()
	watching.Go(func() { c.watch.run(watchCtx) })

	faults, end := context.WithTimeout(ctx, o.Duration)
	defer end()
	work, endWork := context.WithCancel(ctx)
	defer endWork()
	var using sync.WaitGroup
	using.Go(func() { c.users.run(faults, work, o.Seed) })
	c.enemy.run(faults, o.Seed)
	stop := time.AfterFunc(ackTail, endWork)
	defer stop.Stop()
	using.Wait()
}

// settled reports whether every program that was not at rest at a time has come to rest since. It reads only what is new.
func (c *checker) settled(ctx context.Context, at time.Time) bool {
	if c.seen == nil {
		for _, id := range c.ids {
			c.seen = append(c.seen, truth{id: id, at: reducer.NewCheckpoint(id)})
		}
	}
	for i := range c.seen {
		t := &c.seen[i]
		if t.read(ctx, c.bus) != nil {
			return false
		}
		for _, busy := range t.busy() {
			if busy.from.Before(at) && busy.to.IsZero() {
				return false
			}
		}
	}
	return true
}

// report waits until the system is at rest, and checks everything.
func (c *checker) report(ctx context.Context, o Options) (Report, error) {
	began := time.Now()
	problems, err := c.awaitRest(ctx, o)
	if err != nil {
		return Report{}, err
	}
	r := Report{Seed: o.Seed, Duration: o.Duration, Programs: len(c.ids), Rest: time.Since(began), Problems: problems}
	more, err := c.final(ctx)
	if err != nil {
		return r, err
	}
	r.Problems = append(r.Problems, more...)
	for _, p := range c.users.all() {
		r.Sent++
		if p.seq != 0 {
			r.Acked++
		}
	}
	all, err := truths(ctx, c.bus, c.ids)
	if err != nil {
		return r, err
	}
	for _, t := range all {
		r.Events += len(t.steps)
	}
	r.Measured = measure(c.enemy.all(), all)
	r.Faults = rows(c.enemy.all(), r.Measured)
	return r, nil
}

func (c *checker) awaitRest(ctx context.Context, o Options) ([]Problem, error) {
	deadline := time.Now().Add(restWait)
	for {
		problems, err := c.rest(ctx)
		if err == nil && len(problems) == 0 {
			return nil, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return problems, err
		}
		o.Tell("coming to rest: %d differences (%v)", len(problems), err)
		pause.For(ctx, time.Second)
	}
}
