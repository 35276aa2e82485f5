package executor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Metrics counts what an executor does.
type Metrics struct {
	effects                                        *prometheus.CounterVec
	seconds                                        *prometheus.HistogramVec
	dropped, retried, orphans, comparisons, fenced prometheus.Counter
}

// NewMetrics registers the metrics of an executor.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "hersh", Subsystem: "executor", Name: name, Help: help}
	}
	m := &Metrics{
		effects: prometheus.NewCounterVec(opts("effects_total", "Effects run to a result."), []string{"effect", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "hersh", Subsystem: "executor", Name: "effect_seconds", Help: "How long effects took.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 10),
		}, []string{"effect"}),
		dropped:     prometheus.NewCounter(opts("dropped_total", "Effect messages that the log did not await any more.")),
		retried:     prometheus.NewCounter(opts("retried_total", "Effect messages that could not be run to their end and come again.")),
		orphans:     prometheus.NewCounter(opts("orphans_removed_total", "Containers removed because no program names them.")),
		fenced:      prometheus.NewCounter(opts("fenced_total", "Containers ended because the host was cut off from the bus.")),
		comparisons: prometheus.NewCounter(opts("comparisons_total", "Comparisons of Docker with the logs.")),
	}
	reg.MustRegister(m.effects, m.seconds, m.dropped, m.retried, m.orphans, m.comparisons, m.fenced)
	return m
}

func (m *Metrics) observe(eff effects.Effect, result events.Event, took time.Duration) {
	m.effects.WithLabelValues(string(eff.Type()), string(result.Type())).Inc()
	m.seconds.WithLabelValues(string(eff.Type())).Observe(took.Seconds())
}
