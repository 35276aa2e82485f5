package sim

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// withinSeeds is how many seeds a planted mistake may hide for.
const withinSeeds = 200

// TestPlantedMistakesAreFound shows that the simulation can fail: every mistake that is planted must be found.
func TestPlantedMistakesAreFound(t *testing.T) {
	for name, hooks := range mistakes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seeds := uint64(withinSeeds)
			if FewSeeds {
				seeds = 5 // Enough to see that the hooks work; that every mistake is found is for the other build to show.
			}
			for seed := uint64(1); seed <= seeds; seed++ {
				cfg := Small(seed)
				cfg.Hooks = hooks
				result := Run(cfg)
				if result.Violation != nil {
					t.Logf("found by seed %d: %.300v", seed, result.Violation)
					return
				}
			}
			if !FewSeeds {
				t.Errorf("%d seeds did not find it", withinSeeds)
			}
		})
	}
}

func mistakes() map[string]Hooks {
	return map[string]Hooks{
		"work is acknowledged before it is done":                 {AckFirst: true},
		"work that failed is acknowledged":                       {AckFailed: true},
		"no sweep":                                               {NoSweep: true},
		"no comparison but at the start":                         {NoCompare: true},
		"checkpoints are saved before effects go out":            {SupervisorBus: func(b supervisor.Bus) supervisor.Bus { return &saveFirst{Bus: b} }},
		"a publication that failed counts":                       {SupervisorBus: func(b supervisor.Bus) supervisor.Bus { return heedless{b} }},
		"checkpoints that claim too much are believed":           {SupervisorBus: func(b supervisor.Bus) supervisor.Bus { return believer{b} }},
		"effects of a placed program go to any host":             {SupervisorBus: func(b supervisor.Bus) supervisor.Bus { return misplaced{b} }},
		"a message beyond the log is taken for a read that lags": {ExecutorBus: func(b executor.Bus) executor.Bus { return patient{b} }},
		"nobody looks after the hosts":                           {NoWatch: true},
		"hosts work before they compare":                         {NeverAway: true},
		"effects of a lost host run late":                        {StaleLog: true, HostBus: func(b supervisor.HostBus) supervisor.HostBus { return lenient{b} }},
		"hosts are declared lost without asking the leader":      {HostBus: func(b supervisor.HostBus) supervisor.HostBus { return believing{b} }},
		"a host is declared lost again and again":                {HostBus: func(b supervisor.HostBus) supervisor.HostBus { return repeating{b} }},
		"an answer that does not come is a lost host":            {HostBus: func(b supervisor.HostBus) supervisor.HostBus { return impatient{b} }},
		"hosts keep what was theirs when they were lost":         onHost(func(h host, base executor.Host) executor.Host { return clinging{base, h} }),
		"a sweep lists nothing":                                  {SupervisorBus: func(b supervisor.Bus) supervisor.Bus { return headless{b} }},
		"results say no attempt and no host": executorBus(func(_ events.ProgramID, ev *events.Event, _ *string) {
			*ev = events.WithOrigin(*ev, events.Origin{})
		}),
		"result keys without the sequence": executorBus(func(id events.ProgramID, ev *events.Event, key *string) {
			*key = string(id) + "/" + string((*ev).Type())
		}),
		"exit keys without the container": executorBus(func(id events.ProgramID, _ *events.Event, key *string) {
			if strings.Contains(*key, "/exit/") {
				*key = string(id) + "/exit"
			}
		}),
		"a failing read is taken for no program": {ExecutorBus: func(b executor.Bus) executor.Bus { return rash{b} }},
		"a failing publication counts":           {ExecutorBus: func(b executor.Bus) executor.Bus { return deaf{b} }},
		"containers of other hosts are touched":  onHost(func(h host, base executor.Host) executor.Host { return blind{base, h} }),
		"dead containers are taken for alive":    onHost(func(h host, base executor.Host) executor.Host { return hopeful{base, h} }),
		"a start makes a container each time":    onHost(func(h host, base executor.Host) executor.Host { return wasteful{base, h} }),
		"a start leaves earlier attempts":        onHost(func(h host, base executor.Host) executor.Host { return untidy{base, h} }),
		"what could not be tried counts as done": onHost(func(h host, base executor.Host) executor.Host { return boastful{base, h} }),
		"what Docker cannot say is taken for an exit": onHost(func(h host, base executor.Host) executor.Host {
			return panicky{base, h}
		}),
	}
}

// saveFirst saves checkpoints before it publishes what came before them.
type saveFirst struct {
	supervisor.Bus
	waiting []effects.Message
}

func (b *saveFirst) PublishEffects(_ context.Context, m effects.Message) error {
	b.waiting = append(b.waiting, m)
	return nil
}

func (b *saveFirst) Save(ctx context.Context, cp reducer.Checkpoint, replace bool) error {
	if err := b.Bus.Save(ctx, cp, replace); err != nil {
		return err
	}
	waiting := b.waiting
	b.waiting = nil
	for _, m := range waiting {
		if err := b.Bus.PublishEffects(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

type heedless struct{ supervisor.Bus }

func (b heedless) PublishEffects(ctx context.Context, m effects.Message) error {
	_ = b.Bus.PublishEffects(ctx, m)
	return nil
}

// believer shows the sweep every checkpoint as one that has just what its log has.
type believer struct{ supervisor.Bus }

func (b believer) Heads(ctx context.Context) iter.Seq2[events.Head, error] {
	return func(yield func(events.Head, error) bool) {
		for head, err := range b.Bus.Heads(ctx) {
			if cp, found, loadErr := b.Load(ctx, head.ProgramID); loadErr == nil && found {
				head.Seq = max(head.Seq, cp.Seq)
			}
			if !yield(head, err) {
				return
			}
		}
	}
}

type misplaced struct{ supervisor.Bus }

func (b misplaced) PublishEffects(ctx context.Context, m effects.Message) error {
	m.Effects = slices.Clone(m.Effects)
	if start, ok := m.Effects[0].(effects.StartRuntime); ok {
		start.HostID = ""
		m.Effects[0] = start
	}
	return b.Bus.PublishEffects(ctx, m)
}

// patient takes every event that a message names for one that the log has.
type patient struct{ executor.Bus }

func (b patient) Head(ctx context.Context, id events.ProgramID) (events.Head, error) {
	head, err := b.Bus.Head(ctx, id)
	head.Seq += 1000
	return head, err
}

// believing takes every list of hosts for complete.
type believing struct{ supervisor.HostBus }

func (believing) HostAlive(context.Context, events.HostID) (bool, error) { return false, nil }

type repeating struct{ supervisor.HostBus }

func (b repeating) Append(ctx context.Context, id events.ProgramID, ev events.Event, _ string) (uint64, error) {
	return b.HostBus.Append(ctx, id, ev, "")
}

// lenient leaves in the queues what waits for a lost host.
type lenient struct{ supervisor.HostBus }

func (lenient) Withdraw(context.Context, events.HostID, map[events.ProgramID]uint64) (int, error) {
	return 0, nil
}

type impatient struct{ supervisor.HostBus }

func (b impatient) HostAlive(ctx context.Context, host events.HostID) (bool, error) {
	alive, err := b.HostBus.HostAlive(ctx, host)
	if err != nil {
		return false, nil
	}
	return alive, nil
}

// clinging does not show containers of programs that were on the host when it was lost.
type clinging struct {
	executor.Host
	h host
}

func (b clinging) Containers(ctx context.Context) ([]effects.Container, error) {
	all, err := b.Host.Containers(ctx)
	return slices.DeleteFunc(all, func(c effects.Container) bool {
		_, lost := b.h.w.lost[place{c.ProgramID, b.h.id}]
		return lost
	}), err
}

type headless struct{ supervisor.Bus }

func (b headless) Heads(context.Context) iter.Seq2[events.Head, error] {
	return func(func(events.Head, error) bool) {}
}

// appender is an executor's bus whose publications are altered.
type appender struct {
	executor.Bus
	alter func(id events.ProgramID, ev *events.Event, key *string)
}

func executorBus(alter func(events.ProgramID, *events.Event, *string)) Hooks {
	return Hooks{ExecutorBus: func(b executor.Bus) executor.Bus { return appender{b, alter} }}
}

func (b appender) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error) {
	b.alter(id, &ev, &key)
	return b.Bus.Append(ctx, id, ev, key)
}

type rash struct{ executor.Bus }

func (b rash) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		for stored, err := range b.Bus.Read(ctx, id, after) {
			if errors.Is(err, errFault) {
				err = events.ErrNoProgram
			}
			if !yield(stored, err) {
				return
			}
		}
	}
}

type deaf struct{ executor.Bus }

func (b deaf) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error) {
	seq, err := b.Bus.Append(ctx, id, ev, key)
	if errors.Is(err, errFault) {
		return 1, nil
	}
	return seq, err
}

func onHost(wrap func(host, executor.Host) executor.Host) Hooks {
	return Hooks{Host: func(id events.HostID, base executor.Host, w *World) executor.Host {
		return wrap(host{w: w, id: id}, base)
	}}
}

type blind struct {
	executor.Host
	h host
}

func (b blind) Containers(context.Context) (all []effects.Container, err error) {
	for _, c := range b.h.w.docker.containers {
		all = append(all, c.seen())
	}
	return all, nil
}

func (b blind) Execute(ctx context.Context, eff effects.Effect) events.Event {
	if stop, ok := eff.(effects.StopRuntime); ok {
		if c := b.h.w.docker.find(stop.ContainerID); c != nil && c.host != b.h.id {
			return host{w: b.h.w, id: c.host}.Execute(ctx, eff)
		}
	}
	return b.Host.Execute(ctx, eff)
}

type hopeful struct {
	executor.Host
	h host
}

func (b hopeful) Containers(ctx context.Context) ([]effects.Container, error) {
	all, err := b.Host.Containers(ctx)
	for i := range all {
		all[i].Running = true
	}
	return all, err
}

type wasteful struct {
	executor.Host
	h host
}

func (b wasteful) Execute(ctx context.Context, eff effects.Effect) events.Event {
	e, ok := eff.(effects.StartRuntime)
	if !ok {
		return b.Host.Execute(ctx, eff)
	}
	id := b.h.w.docker.create(e.ProgramID, b.h.id, e.Attempt)
	if b.h.w.dockerCall(ctx, "start another "+id, e.ProgramID, func() error { return b.h.w.runContainer(id) }) != nil {
		return nil
	}
	return events.RuntimeStarted{ContainerID: id}
}

type untidy struct {
	executor.Host
	h host
}

func (b untidy) Execute(ctx context.Context, eff effects.Effect) events.Event {
	e, ok := eff.(effects.StartRuntime)
	if !ok {
		return b.Host.Execute(ctx, eff)
	}
	for _, c := range b.h.w.docker.containers {
		if c.program == e.ProgramID && c.attempt == e.Attempt && c.host == b.h.id && c.phase != created {
			return events.RuntimeStarted{ContainerID: c.id}
		}
	}
	id := b.h.w.docker.create(e.ProgramID, b.h.id, e.Attempt)
	if b.h.w.dockerCall(ctx, "start "+id, e.ProgramID, func() error { return b.h.w.runContainer(id) }) != nil {
		return nil
	}
	return events.RuntimeStarted{ContainerID: id}
}

type boastful struct {
	executor.Host
	h host
}

func (b boastful) Execute(ctx context.Context, eff effects.Effect) events.Event {
	result := b.Host.Execute(ctx, eff)
	if _, ok := eff.(effects.StartRuntime); ok && result == nil {
		return events.RuntimeStarted{ContainerID: "none"}
	}
	return result
}

type panicky struct {
	executor.Host
	h host
}

func (b panicky) Execute(ctx context.Context, eff effects.Effect) events.Event {
	result := b.Host.Execute(ctx, eff)
	status, ok := eff.(effects.FetchRuntimeStatus)
	if c := b.h.w.docker.find(status.ContainerID); ok && result == nil && b.h.w.faulty && c != nil {
		return events.RuntimeExited{ContainerID: c.id, ExitCode: -1}
	}
	return result
}
