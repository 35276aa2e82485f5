// Package hershtest runs all of Hersh in a test: a NATS server, a supervisor with its request API, and an executor on a host
// without Docker. It is apart from natstest, so that the tests of its parts can use that one.
package hershtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/tenantstest"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

// HostID is the host of the executor.
const HostID events.HostID = "fake-host"

// hostTTL is so long that no host is lost because the machine that runs the tests is busy.
const hostTTL = 10 * time.Minute

// Stack is a running Hersh.
type Stack struct {
	Server  *natstest.Server    // nil in StartSecure.
	Secure  *tenantstest.Secure // nil in Start.
	Bus     *bus.Bus
	Host    *executor.FakeHost
	Service *supervisord.Service
}

// Start starts everything; it ends with the test. handler is what the host does; nil is one that succeeds at once.
func Start(t testing.TB, handler *effects.FakeEffectHandler) *Stack {
	t.Helper()
	return StartWith(t, handler, supervisord.Options{})
}

// StartWith is Start with the quotas of users, and of their programs' events.
func StartWith(t testing.TB, handler *effects.FakeEffectHandler, o supervisord.Options) *Stack {
	t.Helper()
	srv := natstest.Start(t)
	if handler == nil {
		handler = effects.NewFakeEffectHandler()
	}
	s := &Stack{Server: srv, Host: executor.NewFakeHost(handler)}
	s.startSupervisor(t, o)
	s.Bus = s.Service.Bus()
	s.startExecutor(t)
	return s
}

// StartSecure is Start on a server of tenantstest, with accounts for some users: each part has its own key, and what the test
// does through the Stack it does as an operator.
func StartSecure(t testing.TB, handler *effects.FakeEffectHandler, users ...events.UserID) *Stack {
	t.Helper()
	if handler == nil {
		handler = effects.NewFakeEffectHandler()
	}
	s := &Stack{Secure: tenantstest.Start(t, []events.HostID{HostID}, users)}
	s.Service = s.Secure.Supervise(t, "test")
	s.Bus = s.Secure.Bus(t, tenants.Provisioner, bus.Options{Bind: true})
	s.Host = s.Secure.Execute(t, HostID, handler)
	return s
}

// URL is where clients connect.
func (s *Stack) URL() string {
	if s.Secure != nil {
		return s.Secure.URL
	}
	return s.Server.URL()
}

// Conn returns a connection of its own, which is closed at the end of the test.
func (s *Stack) Conn(t testing.TB) *nats.Conn {
	t.Helper()
	if s.Secure != nil {
		return s.Secure.Conn(t, tenants.Provisioner)
	}
	return s.Server.Conn(t)
}

func (s *Stack) startSupervisor(t testing.TB, o supervisord.Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o.Name, o.Log, o.Registry = "test", natstest.Log(t), prometheus.NewRegistry()
	o.Bus.HostTTL = hostTTL
	svc, err := supervisord.Start(ctx, s.Server.Conn(t), o)
	if err != nil {
		t.Fatal(err)
	}
	s.Service = svc
	t.Cleanup(svc.Stop)
}

func (s *Stack) startExecutor(t testing.TB) {
	t.Helper()
	exec := executor.New(HostID, s.Server.BusWith(t, bus.Options{HostTTL: hostTTL}), s.Host, executor.Options{RunSlots: 2, Version: "test"},
		natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = exec.Run(ctx) }) // Returns the error of ctx.
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

// SourceDir makes a source folder with the given files, name to content. A Dockerfile is added.
func SourceDir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", "FROM scratch\nCOPY . /\n")
	for name, content := range files {
		write(name, content)
	}
	return dir
}
