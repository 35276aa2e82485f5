package tenants_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/tenantstest"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

// deployed starts a server with deploy/nats/nats.conf as it is, but for its folders and ports, and what `hersh tenants` makes beside it.
func deployed(t *testing.T) *tenantstest.Secure {
	t.Helper()
	conf, err := os.ReadFile(filepath.FromSlash("../../deploy/nats/nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	dir, store := t.TempDir(), t.TempDir()
	text := string(conf)
	for from, to := range map[string]string{
		"/etc/nats": dir, "/var/lib/nats": store, "0.0.0.0:4222": "127.0.0.1:-1", "127.0.0.1:8222": "127.0.0.1:-1", "32GB": "10GB",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("nats.conf has no %q", from)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	d := tenants.In(dir)
	if err := os.WriteFile(d.ServerConfig(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(d.SelfSign([]string{"127.0.0.1"}, time.Now()), d.Init(tenants.ServerOptions{}), d.AddHost("h1"), d.AddTenant("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(d.ServerConfig()); err != nil || string(after) != text {
		t.Fatalf("nats.conf was changed (%v)", err)
	}
	srv, err := natsserver.StartConfig(natsserver.Config{Path: d.ServerConfig()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	return &tenantstest.Secure{Dir: d, Server: srv, URL: srv.URL()}
}

func TestDeployedConfiguration(t *testing.T) {
	s := deployed(t)
	opts, err := server.ProcessConfigFile(s.Dir.ServerConfig())
	if err != nil {
		t.Fatal(err)
	}
	if !opts.SyncAlways || opts.TLSConfig == nil || opts.MaxPayload != 1_000_000 && opts.MaxPayload != 1<<20 || len(opts.Accounts) == 0 {
		t.Errorf("sync always %v, TLS %v, payload %d, %d accounts", opts.SyncAlways, opts.TLSConfig != nil, opts.MaxPayload, len(opts.Accounts))
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	admin, err := bus.New(s.Conn(t, tenants.Provisioner), natstest.Log(t), bus.Options{})
	if err == nil {
		err = admin.Provision(ctx)
	}
	if err != nil {
		t.Fatalf("provision: %v", err)
	}
	ca := nats.RootCAs(s.Dir.CertFile())
	for name, url := range map[string]string{"without a key": s.URL, "without TLS": strings.Replace(s.URL, "tls://", "nats://", 1)} {
		opts := []nats.Option{nats.MaxReconnects(0)}
		if name == "without a key" {
			opts = append(opts, ca)
		}
		if nc, err := nats.Connect(url, opts...); err == nil {
			nc.Close()
			t.Errorf("%s: let in", name)
		}
	}
}

// TestDeployedLimits holds a tenant and a host to what the accounts say, while a connection of the host goes on.
func TestDeployedLimits(t *testing.T) {
	s := deployed(t)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	host := s.Conn(t, tenants.HostKeyName("h1"))
	for key, limits := range map[string]struct{ payload, subscriptions, connections int }{
		tenants.TenantKeyName("alice"): {256 << 10, 1024, 64},
		tenants.HostKeyName("h1"):      {1 << 20, 4096, 4 - 1}, // It has one connection already.
	} {
		t.Run(key, func(t *testing.T) {
			checkPayload(ctx, t, s, key, limits.payload)
			checkSubscriptions(ctx, t, s, key, limits.subscriptions)
			checkConnections(ctx, t, s, key, limits.connections)
		})
	}
	checkNoJetStream(t, s, tenants.TenantKeyName("alice")) // A host is answered for the account of Hersh.
	if err := host.FlushWithContext(ctx); err != nil {
		t.Errorf("a host lost its connection meanwhile: %v", err)
	}
}

// checkPayload checks that a message may have so many bytes and no more. Whether its subject is allowed is looked at later.
func checkPayload(ctx context.Context, t *testing.T, s *tenantstest.Secure, key string, most int) {
	t.Helper()
	nc := s.Conn(t, key, nats.MaxReconnects(0))
	defer nc.Close()
	closed := nc.StatusChanged(nats.CLOSED)
	if err := errors.Join(nc.Publish("none", make([]byte, most)), nc.FlushWithContext(ctx)); err != nil {
		t.Errorf("as much as a message may have: %v", err)
	}
	if err := nc.Publish("none", make([]byte, most+1)); err != nil {
		return // The server had told the client.
	}
	select {
	case <-closed:
	case <-ctx.Done():
		t.Errorf("the server took a message of %d bytes", most+1)
	}
}

// checkSubscriptions checks that a connection may have so many subscriptions and no more. The server's refusal comes before its answer to a flush.
func checkSubscriptions(ctx context.Context, t *testing.T, s *tenantstest.Secure, key string, most int) {
	t.Helper()
	nc := s.Conn(t, key)
	defer nc.Close()
	for range most {
		if _, err := nc.SubscribeSync(nc.NewInbox()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(nc.FlushWithContext(ctx), nc.LastError()); err != nil {
		t.Fatalf("with %d subscriptions: %v", most, err)
	}
	if _, err := nc.SubscribeSync(nc.NewInbox()); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := nc.LastError(); !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		t.Errorf("one subscription more than %d: %v", most, err)
	}
}

func checkNoJetStream(t *testing.T, s *tenantstest.Secure, key string) {
	t.Helper()
	nc := s.Conn(t, key)
	defer nc.Close()
	js, err := nc.JetStream(nats.MaxWait(5 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := js.AccountInfo(); err == nil {
		t.Errorf("%s has JetStream: %+v", key, info)
	}
}

// checkConnections checks that somebody gets so many connections and no more. Some that were closed just before may count for a moment still.
func checkConnections(ctx context.Context, t *testing.T, s *tenantstest.Secure, key string, most int) {
	t.Helper()
	_, opts, err := s.Access(key).Resolve(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	opts = append(opts, nats.MaxReconnects(0), nats.Timeout(deadline))
	for n := 0; n <= most && ctx.Err() == nil; {
		nc, err := nats.Connect(s.URL, opts...)
		switch {
		case err == nil && n == most:
			nc.Close()
			t.Errorf("%s has more than %d connections", key, most)
			return
		case err == nil:
			n++
			defer nc.Close()
		case !errors.Is(err, nats.ErrMaxAccountConnectionsExceeded):
			t.Fatalf("connection %d of %s: %v", n+1, key, err)
		case n == most:
			return
		}
	}
	t.Errorf("%s gets no %d connections", key, most)
}
