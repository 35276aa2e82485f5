package supervisor

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what a supervisor does.
type Metrics struct {
	reconciles, failures, events, rejected, published, sweeps prometheus.Counter
}

// NewMetrics registers the counters of a supervisor.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hersh", Subsystem: "supervisor", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	return &Metrics{
		reconciles: counter("reconciles_total", "Reconciliations of a program, whoever asked for them."),
		failures:   counter("failures_total", "Reconciliations that failed and are tried again."),
		events:     counter("events_total", "Events replayed."),
		rejected:   counter("rejected_total", "Events replayed that do not decode."),
		published:  counter("effects_published_total", "Effect messages published, repeated ones included."),
		sweeps:     counter("sweeps_total", "Sweeps over all programs."),
	}
}
