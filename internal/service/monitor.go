package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	checkTimeout    = 3 * time.Second // All readiness checks of one request together.
	shutdownTimeout = 2 * time.Second
	maxHeaderBytes  = 16 << 10
)

// Check is one thing that a service needs before it can work.
type Check struct {
	Name  string
	Ready func(context.Context) error // nil when it is ready.
}

// NewRegistry returns a registry of metrics that has those of the Go runtime and of the process.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Monitor is an HTTP server of its own for /healthz, /readyz and /metrics.
type Monitor struct {
	listener net.Listener
	server   *http.Server
	group    sync.WaitGroup
}

// StartMonitor listens on an address like "127.0.0.1:8080"; "" serves nothing, and the monitor does nothing. /healthz answers as
// long as the process does, /readyz says whether all checks pass.
func StartMonitor(addr string, reg *prometheus.Registry, log *slog.Logger, checks ...Check) (*Monitor, error) {
	m := &Monitor{}
	if addr == "" {
		return m, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve health and metrics on %s: %w", addr, err)
	}
	m.listener = listener
	m.server = &http.Server{
		Handler:           monitorMux(reg, log, checks),
		ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	m.group.Go(func() {
		if err := m.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("health and metrics are not served any more", "error", err)
		}
	})
	return m, nil
}

// Addr is where the monitor listens, "" when it is off.
func (m *Monitor) Addr() string {
	if m.listener == nil {
		return ""
	}
	return m.listener.Addr().String()
}

// Stop ends the server, and returns when nothing of it is left.
func (m *Monitor) Stop() {
	if m.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if m.server.Shutdown(ctx) != nil {
		_ = m.server.Close() // Connections that do not end by themselves; its error would only repeat that.
	}
	m.group.Wait()
}

func monitorMux(reg *prometheus.Registry, log *slog.Logger, checks []Check) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		for _, c := range checks {
			if err := c.Ready(ctx); err != nil {
				log.Debug("not ready", "check", c.Name, "error", err)
				// The cause may tell what a stranger need not know.
				http.Error(w, "not ready: "+c.Name, http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: checkTimeout}))
	return mux
}

// Gate is a check that fails until the service has started, and then is the service's own checks. The zero value is ready for use.
type Gate struct {
	mu     sync.Mutex
	opened bool
	checks []Check
}

// Check returns the gate as a check.
func (g *Gate) Check(name string) Check {
	return Check{Name: name, Ready: func(ctx context.Context) error {
		g.mu.Lock()
		opened, checks := g.opened, g.checks
		g.mu.Unlock()
		if !opened {
			return errors.New("not yet")
		}
		for _, c := range checks {
			if err := c.Ready(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		return nil
	}}
}

// Open says that the service has started, and what it needs from here on.
func (g *Gate) Open(checks ...Check) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened, g.checks = true, checks
}
