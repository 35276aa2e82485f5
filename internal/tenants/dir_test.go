package tenants_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/hershtest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/tenantstest"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// files reads a folder: path to content. It checks that only the owner may read any of it.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if path != dir && info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		if entry.IsDir() {
			return nil
		}
		data, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDoingItAgainChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := tenants.In(dir)
	do := func() {
		t.Helper()
		for _, err := range []error{d.Init(tenants.ServerOptions{StoreDir: "/data"}), d.AddHost("h1"), d.AddTenant("alice"), d.AddTenant("bob")} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	do()
	first := files(t, dir)
	do()
	for name, content := range files(t, dir) {
		if first[name] != content {
			t.Errorf("%s changed", name)
		}
	}
	seeds := 0
	for name, content := range first {
		if has := strings.Contains(content, "\nSU"); has != strings.HasSuffix(name, ".nk") {
			t.Errorf("%s has a secret key: %v", name, has)
		} else if has {
			seeds++
		}
	}
	if seeds != 5 {
		t.Errorf("%d key files, want 5", seeds)
	}
	if err := d.RemoveTenant("alice"); err != nil {
		t.Fatal(err)
	}
	for name, content := range files(t, dir) {
		if strings.Contains(content, "alice") || strings.Contains(name, "alice") {
			t.Errorf("%s still names a tenant that was removed", name)
		}
	}
	if err := d.RemoveTenant("alice"); !errors.Is(err, tenants.ErrNotThere) {
		t.Errorf("removing it again: %v, want ErrNotThere", err)
	}
	for _, bad := range []events.UserID{"", "Alice", "a.b", "*", "HERSH", "SYS", "$G", "HOST-h1", "a\n", `a"`} {
		if d.AddTenant(bad) == nil {
			t.Errorf("tenant %q was taken", bad)
		}
	}
}

// TestAddingATenantInterruptsNobody reloads under connections that work. Twice, since a server that reloads gives an account that is new to
// it the subscriptions of its service imports only with the next reload (nats-server 2.15.2, configureAccounts).
func TestAddingATenantInterruptsNobody(t *testing.T) {
	s := tenantstest.Start(t, []events.HostID{"h1"}, []events.UserID{"alice"})
	sup := s.Supervise(t, "test")
	s.Execute(t, "h1", effects.NewFakeEffectHandler())
	id := create(t, s, sup.Bus(), "alice")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	lost := make(chan string, 16)
	watch := func(key string) *nats.Conn {
		return s.Conn(t, key, nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				lost <- key + ": " + err.Error()
			}
		}))
	}
	alice := watch(tenants.TenantKeyName("alice"))
	watch(tenants.HostKeyName("h1"))
	watch(tenants.Supervisor)
	feed, err := alice.SubscribeSync(events.FeedSubject(id, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(alice.Flush(), s.Dir.AddTenant("carol"), s.Dir.AddHost("h2"), s.Server.Reload(), s.Server.Reload()); err != nil {
		t.Fatal(err)
	}
	c := client.New(alice)
	seq, err := c.Start(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if settled, err := c.WaitSettled(ctx, id, seq); err != nil || settled.State.State != reducer.StateReady {
		t.Fatalf("after a reload: %+v, %v; want Ready", settled, err)
	}
	if _, err := feed.NextMsgWithContext(ctx); err != nil {
		t.Errorf("a subscription from before the reload hears nothing: %v", err)
	}
	carol := client.New(s.Conn(t, tenants.TenantKeyName("carol")))
	for _, err := range carol.List(ctx, "carol") {
		t.Errorf("the new tenant cannot list programs: %v", err)
	}
	select {
	case who := <-lost:
		t.Errorf("lost a connection: %s", who)
	default:
	}
}

// TestTenantDeploys uploads through the request API: a tenant has no JetStream.
func TestTenantDeploys(t *testing.T) {
	s := tenantstest.Start(t, []events.HostID{"h1"}, []events.UserID{"alice"})
	sup := s.Supervise(t, "test")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	c := client.New(s.Conn(t, tenants.TenantKeyName("alice")))
	dir := hershtest.SourceDir(t, map[string]string{"big": strings.Repeat("0123456789abcdef", 40_000)})
	var sent int64
	id, err := c.Deploy(ctx, dir, "alice", client.DeployOptions{Progress: func(n, _ int64) { sent = n }})
	if err != nil || sent < 600_000 {
		t.Fatalf("deploy: %v, %d bytes sent", err, sent)
	}
	source, err := sup.Bus().OpenSource(ctx, "alice", id.Build())
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if n, err := got.ReadFrom(source); err != nil || n != sent {
		t.Errorf("read %d bytes of the source, %v; want %d", n, err, sent)
	}
	if left, err := sup.Bus().StagedChunks(ctx, "alice"); err != nil || left != 0 {
		t.Errorf("%d chunks are left of the upload, %v", left, err)
	}
	other := strings.Repeat("0", 64)
	answer := s.Conn(t, tenants.TenantKeyName("alice"))
	msg, err := answer.RequestWithContext(ctx, events.APISubject("alice", wire.VerbUploadBegin), []byte(`{"sourceDigest":"`+other+`","bytes":99999999999}`))
	if err != nil || msg.Header.Get("Nats-Service-Error-Code") != "403" {
		t.Errorf("a source over the quota: %v, %v", msg, err)
	}
}
