package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	healthWait  = 2 * time.Minute  // How long the cluster may take to be whole before it is hurt again.
	settleLeast = 3 * time.Second  // After a fault that is measured.
	settleMost  = 90 * time.Second // Until what a fault held up must have come through, or the next one comes.
)

// hostGone is the kind whose host is back only after it was declared lost.
const hostGone = "host gone"

// fault is something that went wrong.
type fault struct {
	kind, target string
	began, ended time.Time // ended is when it was put right: what was killed was started again.
	alone        bool      // Nothing else went wrong until the system had recovered, so that its recovery can be measured.
}

// act is a fault that is about to happen.
type act struct {
	target string
	do     func(ctx context.Context) error // Returns when it is put right.
}

// kind is a sort of fault.
type kind struct {
	name   string
	weight int
	bus    bool // It hurts the cluster, which must be whole before: two of three copies must never be lost.
	plan   func(r *rand.Rand) act
}

// nemesis makes things go wrong, by a schedule that its seed decides.
type nemesis struct {
	system  *System
	js      nats.JetStreamContext
	settled func(ctx context.Context, since time.Time) bool // Whether all that was under way at some time has ended.
	tell    func(format string, args ...any)
	only    string // The one kind of fault that it makes; "" is all.

	mu     sync.Mutex
	faults []fault
	killed map[string]bool // Containers that it ended.
}

// run makes faults until ctx ends, one alone or some at once. In the end everything is put right.
func (n *nemesis) run(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0xC4A05))
	kinds := n.kinds()
	if n.only != "" {
		kinds = slices.DeleteFunc(kinds, func(k kind) bool { return k.slug() != n.only })
	}
	for pause.For(ctx, time.Duration(500+r.IntN(4000))*time.Millisecond) {
		chosen := []kind{choose(r, kinds, true)}
		if n.only == "" {
			for range r.IntN(3) * r.IntN(2) {
				chosen = append(chosen, choose(r, kinds, false))
			}
		}
		alone := n.only != "" || len(chosen) == 1 && r.IntN(2) == 0
		var group sync.WaitGroup
		for _, k := range chosen {
			a := k.plan(r)
			group.Go(func() { n.make(ctx, k, a, alone) })
		}
		group.Wait()
		if alone {
			n.awaitSettled(ctx)
		}
	}
}

// slug is the name of a kind on a command line.
func (k kind) slug() string { return strings.ReplaceAll(strings.ToLower(k.name), " ", "-") }

// limit makes it make only one kind of fault; "" is all.
func (n *nemesis) limit(only string) error {
	var slugs []string
	for _, k := range n.kinds() {
		slugs = append(slugs, k.slug())
	}
	if only != "" && !slices.Contains(slugs, only) {
		return fmt.Errorf("there is no fault %q; there are %s", only, strings.Join(slugs, ", "))
	}
	n.only = only
	return nil
}

// choose takes a kind by weight. Of those that happen at once only the first may hurt the cluster.
func choose(r *rand.Rand, kinds []kind, bus bool) kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	for {
		dice := r.IntN(total)
		for _, k := range kinds {
			if dice -= k.weight; dice < 0 {
				if k.bus && !bus {
					break
				}
				return k
			}
		}
	}
}

func (n *nemesis) make(ctx context.Context, k kind, a act, alone bool) {
	if k.bus {
		wait, cancel := context.WithTimeout(ctx, healthWait)
		defer cancel()
		if err := n.system.cluster.AwaitHealthy(wait); err != nil {
			if ctx.Err() == nil {
				n.system.note(err)
			}
			return
		}
	}
	f := fault{kind: k.name, target: a.target, alone: alone, began: time.Now()}
	n.tell("%s: %s", k.name, a.target)
	if err := a.do(ctx); err != nil && ctx.Err() == nil {
		n.tell("%s: %s: %v", k.name, a.target, err)
	}
	f.ended = time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, f)
}

func (n *nemesis) awaitSettled(ctx context.Context) {
	since := time.Now()
	ctx, cancel := context.WithTimeout(ctx, settleMost)
	defer cancel()
	if !pause.For(ctx, settleLeast) {
		return
	}
	for !n.settled(ctx, since) {
		if !pause.For(ctx, time.Second) {
			return
		}
	}
}

func (n *nemesis) kinds() []kind {
	s := n.system
	kinds := []kind{
		{"supervisor killed", 8, false, n.killedFor(s.supervisors, 0, 3*time.Second)},
		{"supervisor frozen", 4, false, frozen(s.supervisors, 20*time.Second)},
		{"supervisor cut off", 4, false, cutOff(s.supervisors, 20*time.Second)},
		{"all supervisors killed", 3, false, n.killedAll(s.supervisors)},
		{"executor killed", 12, false, n.killedFor(s.executors, 0, 3*time.Second)},
		{"executor frozen", 6, false, frozen(s.executors, 30*time.Second)},
		{"executor cut off", 6, false, cutOff(s.executors, 30*time.Second)},
		{hostGone, 4, false, n.killedFor(s.executors, s.hostTTL+10*time.Second, 10*time.Second)},
		{"all executors killed", 3, false, n.killedAll(s.executors)},
		{"NATS server killed", 8, true, n.server(n.serverKilled)},
		{"NATS server frozen", 5, true, n.server(n.serverFrozen)},
		{"NATS disk wiped", 5, true, n.server(n.diskWiped)},
		{"NATS routes cut", 4, true, n.apart((*Proxy).Cut)},
		{"NATS routes held up", 4, true, n.apart((*Proxy).Hold)},
		{"two NATS servers away", 3, true, n.majority},
		{"all NATS servers killed", 3, true, n.allServers(n.killServers)},
		{"read model deleted", 3, false, n.readModelDeleted},
		{"read model emptied", 3, false, n.purged("KV_" + events.BucketPrograms)},
		{"wake-ups emptied", 3, false, n.purged(events.StreamWake)},
		{"wake-ups deleted", 3, false, n.deleted(events.StreamWake)},
		{"containers removed", 6, false, n.containers(true)},
		{"containers killed", 6, false, n.containers(false)},
	}
	if !s.cluster.hasDisks() {
		return kinds
	}
	return append(kinds,
		kind{"NATS disk full", 4, true, n.server(n.diskFull)},
		kind{"NATS disk slow", 4, true, n.server(n.diskSlow)},
		kind{"NATS server without power", 4, true, n.server(n.serverPowerless)},
		kind{"all NATS servers without power", 4, true, n.allServers(losePower)},
	)
}

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}

func (n *nemesis) killedFor(list []*service, least, more time.Duration) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		s, d := list[r.IntN(len(list))], between(r, least, least+more)
		return act{s.Name, func(ctx context.Context) error {
			s.Kill()
			pause.For(ctx, d)
			return s.Start()
		}}
	}
}

func (n *nemesis) killedAll(list []*service) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		d := between(r, 0, 2*time.Second)
		return act{fmt.Sprintf("all %d", len(list)), func(ctx context.Context) error {
			for _, s := range list {
				s.Kill()
			}
			pause.For(ctx, d)
			for _, s := range list {
				if err := s.Start(); err != nil {
					return err
				}
			}
			return nil
		}}
	}
}

func frozen(list []*service, most time.Duration) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		s, d := list[r.IntN(len(list))], between(r, time.Second, most)
		return act{fmt.Sprintf("%s for %s", s.Name, d.Round(time.Second)), func(ctx context.Context) error {
			s.Freeze()
			defer s.Thaw()
			pause.For(ctx, d)
			return nil
		}}
	}
}

func cutOff(list []*service, most time.Duration) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		s, d := list[r.IntN(len(list))], between(r, time.Second/2, most)
		return act{fmt.Sprintf("%s for %s", s.Name, d.Round(time.Second)), func(ctx context.Context) error {
			s.cut()
			defer s.mend()
			pause.For(ctx, d)
			return nil
		}}
	}
}

func (n *nemesis) server(do func(context.Context, *Server, time.Duration) error) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		s, d := n.system.cluster.Servers[r.IntN(servers)], between(r, time.Second, 15*time.Second)
		return act{s.Name, func(ctx context.Context) error { return do(ctx, s, d) }}
	}
}

// majority takes two servers away, so that nothing can be stored.
func (n *nemesis) majority(r *rand.Rand) act {
	left, d := r.IntN(servers), between(r, time.Second, 12*time.Second)
	return act{"all but " + n.system.cluster.Servers[left].Name, func(ctx context.Context) error {
		for i, s := range n.system.cluster.Servers {
			if i != left {
				s.Kill()
			}
		}
		pause.For(ctx, d)
		return n.startServers()
	}}
}

func (n *nemesis) allServers(end func(...*Server) error) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		d := between(r, 0, 5*time.Second)
		return act{"all", func(ctx context.Context) error {
			err := end(n.system.cluster.Servers...)
			pause.For(ctx, d)
			return errors.Join(err, n.startServers())
		}}
	}
}

func (n *nemesis) killServers(list ...*Server) error {
	for _, s := range list {
		s.Kill()
	}
	return nil
}

func (n *nemesis) serverKilled(ctx context.Context, s *Server, d time.Duration) error {
	s.Kill()
	pause.For(ctx, d/3)
	return s.Start()
}

func (n *nemesis) serverPowerless(ctx context.Context, s *Server, d time.Duration) error {
	err := losePower(s)
	pause.For(ctx, d/3)
	return errors.Join(err, s.Start())
}

func (n *nemesis) serverFrozen(ctx context.Context, s *Server, d time.Duration) error {
	s.Freeze()
	defer s.Thaw()
	pause.For(ctx, d)
	return nil
}

func (n *nemesis) diskWiped(ctx context.Context, s *Server, d time.Duration) error {
	if err := s.Wipe(); err != nil {
		return err
	}
	pause.For(ctx, d/3)
	if err := s.Start(); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthWait)
	defer cancel()
	return n.system.cluster.AwaitHealthy(wait)
}

// diskFull ends as an operator ends it: the server switched JetStream off when it could not write, and is restarted once there is
// room.
func (n *nemesis) diskFull(ctx context.Context, s *Server, d time.Duration) error {
	s.disk.SetFull(true)
	pause.For(ctx, d)
	s.disk.SetFull(false)
	s.Kill()
	return s.Start()
}

func (n *nemesis) diskSlow(ctx context.Context, s *Server, d time.Duration) error {
	s.disk.SetDelay(d / 100) // 10 to 150 ms.
	defer s.disk.SetDelay(0)
	pause.For(ctx, d)
	return nil
}

// apart keeps a server from the others, or two servers from each other, while each has its clients.
func (n *nemesis) apart(do func(*Proxy)) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		c, one, d := n.system.cluster, r.IntN(servers), between(r, time.Second, 20*time.Second)
		target, links := c.Servers[one].Name+" from all", c.around(one)
		if r.IntN(2) == 0 {
			other := (one + 1) % servers
			target, links = c.Servers[one].Name+" from "+c.Servers[other].Name, c.between(one, other)
		}
		return act{fmt.Sprintf("%s for %s", target, d.Round(time.Second)), func(ctx context.Context) error {
			for _, p := range links {
				do(p)
			}
			pause.For(ctx, d)
			for _, p := range links {
				p.Mend()
			}
			return nil
		}}
	}
}

func (n *nemesis) startServers() error {
	for _, s := range n.system.cluster.Servers {
		if err := s.Start(); err != nil {
			return err
		}
	}
	return nil
}

// readModelDeleted does what the handbook says: delete the bucket and restart the supervisors.
func (n *nemesis) readModelDeleted(r *rand.Rand) act {
	restart := n.killedAll(n.system.supervisors)(r)
	return act{"KV_" + events.BucketPrograms, func(ctx context.Context) error {
		err := n.js.DeleteStream("KV_" + events.BucketPrograms)
		if err := restart.do(ctx); err != nil {
			return err
		}
		return err
	}}
}

func (n *nemesis) purged(stream string) func(*rand.Rand) act {
	return func(*rand.Rand) act {
		return act{stream, func(context.Context) error { return n.js.PurgeStream(stream) }}
	}
}

func (n *nemesis) deleted(stream string) func(*rand.Rand) act {
	return func(*rand.Rand) act {
		return act{stream, func(context.Context) error { return n.js.DeleteStream(stream) }}
	}
}

// containers ends some containers of a host behind its executor's back.
func (n *nemesis) containers(remove bool) func(*rand.Rand) act {
	return func(r *rand.Rand) act {
		e, count := n.system.executors[r.IntN(len(n.system.executors))], 1+r.IntN(3)
		return act{fmt.Sprintf("%d of %s", count, e.Name), func(context.Context) error {
			list, err := e.host.list()
			if err != nil {
				return err
			}
			for _, c := range list {
				if !c.Running || count == 0 {
					continue
				}
				count--
				n.note(c.ID)
				if remove {
					err = e.host.wipe(c)
				} else {
					err = e.host.kill(c)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}}
	}
}

func (n *nemesis) note(container string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.killed[container] = true
}

func (n *nemesis) ended(container string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.killed[container]
}

func (n *nemesis) all() []fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]fault(nil), n.faults...)
}
