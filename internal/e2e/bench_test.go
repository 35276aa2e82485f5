package e2e

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/effects/storage"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/service/executord"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// BenchmarkStart measures the time from UserStartRequested to Ready against the same effects run directly on the same handler,
// in turn, so that both see the same machine. It reports the median of each and of the ratios of the pairs.
func BenchmarkStart(b *testing.B) {
	docker := dockertest.Require(b)
	server := natstest.Start(b)
	quiet := slog.New(slog.DiscardHandler)
	sup, err := supervisord.Start(b.Context(), server.Conn(b), supervisord.Options{Name: "bench", Log: quiet, Registry: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(sup.Stop)
	exec, err := executord.Start(b.Context(), server.Conn(b), executord.Options{
		HostID: "bench-" + events.HostID(docker.Run[:10]), Dir: b.TempDir(), Runtime: docker.Runtime(), BuildSlots: 1, RunSlots: 1,
		Labels: docker.Labels(), Log: quiet, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(exec.Stop)
	direct := newDirect(b, docker, server.Bus(b))
	through := deploy(b, server.Bus(b), "alice", docker.Source("wait"))

	var hersh, plain, ratios []float64
	for b.Loop() {
		a := throughHersh(b, server.Bus(b), through)
		d := direct.start(b)
		hersh, plain, ratios = append(hersh, a.Seconds()), append(plain, d.Seconds()), append(ratios, a.Seconds()/d.Seconds())
	}
	b.ReportMetric(median(hersh)*1000, "hersh-ms")
	b.ReportMetric(median(plain)*1000, "direct-ms")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op") // The pairs are what counts.
}

// throughHersh starts a program, and stops it again outside of the time.
func throughHersh(b *testing.B, bs *bus.Bus, id events.ProgramID) time.Duration {
	b.Helper()
	ready := make(chan struct{}, 1)
	stop, err := bs.Watch(b.Context(), id, func() {
		if cp, err := fold(b.Context(), bs, id); err == nil && cp.State.State == reducer.StateReady {
			select {
			case ready <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if _, err := bs.Append(b.Context(), id, events.UserStartRequested{}, ""); err != nil {
		b.Fatal(err)
	}
	select {
	case <-ready:
	case <-time.After(deadline):
		b.Fatalf("not ready:\n%s", history(b, bs, id))
	}
	took := time.Since(began)
	stop()
	if _, err := bs.Append(b.Context(), id, events.UserStopRequested{}, ""); err != nil {
		b.Fatal(err)
	}
	waitState(b, bs, id, "stopped", is(reducer.StateStopped))
	return took
}

// direct is the real handler without log, bus and loops.
type direct struct {
	handler *host.RealEffectHandler
	id      events.ProgramID
	digest  events.SourceDigest
	attempt uint64
}

func newDirect(b *testing.B, docker *dockertest.Docker, bs *bus.Bus) *direct {
	b.Helper()
	manager, err := runtime.NewDockerManager(runtime.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = manager.Close() })
	handler := host.NewRealEffectHandler(storage.NewManager(filepath.Join(b.TempDir(), "direct")), compose.NewBuilder(), manager,
		host.WithHostID("direct-"+events.HostID(docker.Run[:10])), host.WithLabels(docker.Labels()), host.WithSources(bs), host.WithLogSink(bs))
	handler.SetDefaultRuntime(docker.Runtime())
	id := deploy(b, bs, "bob", docker.Source("wait"))
	cp, err := fold(b.Context(), bs, id)
	if err != nil {
		b.Fatal(err)
	}
	return &direct{handler: handler, id: id, digest: cp.State.SourceDigest}
}

func (d *direct) start(b *testing.B) time.Duration {
	b.Helper()
	d.attempt++
	place := effects.Placement{Attempt: d.attempt}
	began := time.Now()
	run[events.FoldersEnsured](b, d.handler, effects.EnsureProgramFolders{Placement: place, ProgramID: d.id})
	built := run[events.BuildFinished](b, d.handler, effects.BuildRuntime{Placement: place, ProgramID: d.id, BuildID: d.id.Build(), SourceDigest: d.digest})
	started := run[events.RuntimeStarted](b, d.handler, effects.StartRuntime{Placement: place, ProgramID: d.id, ImageID: built.ImageID})
	took := time.Since(began)
	run[events.StopFinished](b, d.handler, effects.StopRuntime{Placement: place, ProgramID: d.id, ContainerID: started.ContainerID})
	return took
}

// run runs an effect that must succeed with a result of type T.
func run[T events.Event](b *testing.B, handler effects.EffectHandler, eff effects.Effect) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), deadline)
	defer cancel()
	result, ok := handler.Execute(ctx, eff).(T)
	if !ok || events.Failed(result) {
		b.Fatalf("%s: %+v", eff.Type(), result)
	}
	return result
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
