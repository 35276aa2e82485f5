// Package prochost is an executor's host whose containers are those of package box.
package prochost

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
)

const exitsEvery = 100 * time.Millisecond

// Injected stands in the reason of every failure that is part of a plan.
const Injected = "injected failure"

// Plan is what becomes of one attempt of a program. It depends on nothing but the seed, the program and the attempt, so that an
// effect that runs twice does the same.
type Plan struct {
	Build       time.Duration
	BuildFails  bool
	StartFails  bool
	Script      box.Script
	FoldersFail bool
}

// PlanOf makes a plan: most attempts build within 200 ms and run until they are stopped.
func PlanOf(seed uint64, id events.ProgramID, attempt uint64) Plan {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%d/%s/%d", seed, id, attempt)
	r := rand.New(rand.NewPCG(seed, hash.Sum64()))
	p := Plan{Build: time.Duration(r.IntN(200)) * time.Millisecond}
	switch dice := r.IntN(100); {
	case dice < 2:
		p.FoldersFail = true
	case dice < 5:
		p.BuildFails = true
	case dice < 8:
		p.StartFails = true
	case dice < 12:
		p.Script.ExitAfter, p.Script.ExitCode = time.Millisecond, 3
	case dice < 20:
		p.Script.ExitAfter, p.Script.ExitCode = time.Duration(1+r.IntN(10_000))*time.Millisecond, r.IntN(3)
	case dice < 24:
		p.Build = 3 * time.Second
	case dice < 30:
		p.Script.IgnoreTerm = true
	}
	return p
}

// Host implements executor.Host.
type Host struct {
	store  box.Store
	images string
	seed   uint64
}

// New returns the host that keeps its containers and images in a folder.
func New(dir, binary string, seed uint64) *Host {
	return &Host{store: Store(dir, binary), images: filepath.Join(dir, "images"), seed: seed}
}

// Store returns the containers of the host in a folder.
func Store(dir, binary string) box.Store {
	return box.Store{Dir: filepath.Join(dir, "containers"), Binary: binary}
}

// Execute implements effects.EffectHandler.
func (h *Host) Execute(ctx context.Context, eff effects.Effect) events.Event {
	switch e := eff.(type) {
	case effects.EnsureProgramFolders:
		if PlanOf(h.seed, e.ProgramID, e.Attempt).FoldersFail {
			return events.FoldersEnsured{Error: Injected}
		}
		return events.FoldersEnsured{Success: true}
	case effects.BuildRuntime:
		return h.build(ctx, e)
	case effects.StartRuntime:
		return h.start(ctx, e)
	case effects.StopRuntime:
		return h.stop(ctx, e)
	case effects.FetchRuntimeStatus:
		return h.status(e.ContainerID)
	}
	return nil
}

func (h *Host) image(id events.ProgramID) string { return filepath.Join(h.images, string(id)) }

func (h *Host) build(ctx context.Context, e effects.BuildRuntime) events.Event {
	plan := PlanOf(h.seed, e.ProgramID, e.Attempt)
	timer := time.NewTimer(plan.Build)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-timer.C:
	}
	if plan.BuildFails {
		return events.BuildFinished{Error: Injected}
	}
	if os.MkdirAll(h.images, 0o755) != nil || os.WriteFile(h.image(e.ProgramID), nil, 0o644) != nil {
		return nil
	}
	return events.BuildFinished{Success: true, ImageID: "image-" + string(e.BuildID)}
}

func (h *Host) start(ctx context.Context, e effects.StartRuntime) events.Event {
	plan := PlanOf(h.seed, e.ProgramID, e.Attempt)
	if plan.StartFails {
		return events.StartFailed{Reason: Injected}
	}
	if _, err := os.Stat(h.image(e.ProgramID)); err != nil {
		return events.StartFailed{Reason: err.Error()}
	}
	if !h.removeEarlier(ctx, e.ProgramID, e.Attempt) {
		return nil
	}
	if err := h.store.Create(e.ProgramID, e.Attempt, plan.Script); err != nil {
		return nil
	}
	status, err := h.store.Start(ctx, e.ProgramID, e.Attempt)
	if err != nil {
		return nil // Removed by hand just now, or too slow: it comes again.
	}
	return events.RuntimeStarted{ContainerID: status.ID}
}

func (h *Host) removeEarlier(ctx context.Context, id events.ProgramID, attempt uint64) bool {
	list, err := h.store.List()
	if err != nil {
		return false
	}
	for _, c := range list {
		if c.ProgramID == id && c.Attempt < attempt && h.store.Remove(ctx, c.ID) != nil {
			return false
		}
	}
	return true
}

func (h *Host) stop(ctx context.Context, e effects.StopRuntime) events.Event {
	c, err := h.store.Find(e.ContainerID)
	if err == nil && e.ProgramID != "" && c.ProgramID != e.ProgramID {
		return events.StopFinished{ContainerID: e.ContainerID, Error: "the container belongs to another program"}
	}
	if h.store.Remove(ctx, e.ContainerID) != nil {
		return nil
	}
	return events.StopFinished{ContainerID: e.ContainerID, Success: true}
}

func (h *Host) status(id string) events.Event {
	c, err := h.store.Find(id)
	switch {
	case errors.Is(err, box.ErrNone):
		return events.RuntimeExited{ContainerID: id, ExitCode: -1}
	case err != nil, c.Running(), !c.Started:
		return nil
	}
	return events.RuntimeExited{ContainerID: id, ExitCode: c.ExitCode}
}

// Containers implements executor.Host.
func (h *Host) Containers(context.Context) ([]effects.Container, error) {
	list, err := h.store.List()
	if err != nil {
		return nil, err
	}
	var all []effects.Container
	for _, c := range list {
		all = append(all, container(c))
	}
	return all, nil
}

func container(c box.Status) effects.Container {
	return effects.Container{ID: c.ID, ProgramID: c.ProgramID, Attempt: c.Attempt, Running: c.Running(), ExitCode: c.ExitCode}
}

// End implements executor.Host. The container goes, and with it the reason.
func (h *Host) End(ctx context.Context, c effects.Container, _ string) error {
	return h.store.Remove(ctx, c.ID)
}

// Remains implements executor.Host: what is not a container is too small to matter.
func (h *Host) Remains(context.Context) ([]events.ProgramID, error) { return nil, nil }

// Forget implements executor.Host.
func (h *Host) Forget(context.Context, events.ProgramID) error { return nil }

// Adopt implements executor.Host: there is nothing to take up.
func (h *Host) Adopt(context.Context, effects.Container) error { return nil }

// Exits implements executor.Host. It looks again and again, and tells of each container that it finds dead or gone since the
// first look.
func (h *Host) Exits(ctx context.Context, connected func(), ended func(effects.Container)) error {
	known, err := h.look(nil, func(effects.Container) {})
	if err != nil {
		return err
	}
	connected()
	ticker := time.NewTicker(exitsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if known, err = h.look(known, ended); err != nil {
			return err
		}
	}
}

// seen is a container at the last look.
type seen struct {
	effects.Container
	told bool // Its end was told.
}

func (h *Host) look(before map[string]seen, ended func(effects.Container)) (map[string]seen, error) {
	list, err := h.store.List()
	if err != nil {
		return nil, err
	}
	now := map[string]seen{}
	for _, c := range list {
		entry := seen{container(c), before[c.ID].told}
		if c.Started && !c.Running() && !entry.told {
			ended(entry.Container)
			entry.told = true
		}
		now[c.ID] = entry
	}
	for id, c := range before {
		if _, there := now[id]; !there && !c.told {
			c.Running = false
			ended(c.Container)
		}
	}
	return now, nil
}

// Describe implements executor.Host.
func (h *Host) Describe(ctx context.Context) events.Heartbeat {
	beat := events.Heartbeat{DefaultRuntime: "process"}
	list, err := h.Containers(ctx)
	if err != nil {
		beat.Problem = err.Error()
	}
	for _, c := range list {
		if c.Running {
			beat.Running++
		}
	}
	return beat
}
