package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

// startSecure makes what `hersh tenants init`, `add-host` and `add` make, starts the server with it, and provisions it. What is there
// from before stays as it is, and so do tenants that were added by hand.
func (cmd *devCmd) startSecure(ctx context.Context, host string, port int, hostID events.HostID, log *slog.Logger) (*devServer, error) {
	keys := tenants.In(filepath.Join(cmd.Dir, "nats"))
	if err := cmd.configure(keys, host, hostID); err != nil {
		return nil, err
	}
	srv, err := natsserver.StartConfig(natsserver.Config{Path: keys.ServerConfig(), Host: host, Port: port, Log: log})
	if err != nil {
		return nil, err
	}
	s := &devServer{Server: srv, keys: &keys, log: log}
	if err := s.provision(ctx); err != nil {
		srv.Shutdown()
		return nil, err
	}
	return s, nil
}

func (cmd *devCmd) configure(keys tenants.Dir, host string, hostID events.HostID) error {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if !slices.Contains(names, host) {
		names = append(names, host)
	}
	if err := keys.SelfSign(names, time.Now()); err != nil {
		return err
	}
	err := keys.Init(tenants.ServerOptions{
		StoreDir: filepath.Join(cmd.Dir, "nats", "jetstream"), TLSCert: keys.CertFile(), TLSKey: keys.CertKeyFile(),
	})
	if err != nil {
		return err
	}
	if err := keys.AddHost(hostID); err != nil {
		return err
	}
	for _, name := range cmd.Tenant {
		user, err := parseUser(name)
		if err != nil {
			return err
		}
		if err := keys.AddTenant(user); err != nil {
			return err
		}
	}
	return nil
}

func (s *devServer) provision(ctx context.Context) error {
	nc, err := s.dial(tenants.Provisioner)
	if err != nil {
		return err
	}
	defer closeConn(nc)
	return provision(ctx, nc, 1, s.log)
}

// reloadUntil waits until ctx ends. With accounts, SIGHUP lets the server read them again, as the nats-server command does.
func (s *devServer) reloadUntil(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	if s.keys != nil {
		signal.Notify(hup, syscall.SIGHUP)
		defer signal.Stop(hup)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			// Twice: an account that is new to a running server works from the second time on.
			if err := errors.Join(s.Reload(), s.Reload()); err != nil {
				s.log.Error("the accounts could not be read again; those of before hold", "error", err)
			}
		}
	}
}

// secureBanner says how to take part as a tenant.
func (cmd *devCmd) secureBanner(a *app, srv *devServer) error {
	who := "alice"
	if len(cmd.Tenant) > 0 {
		who = cmd.Tenant[0]
	}
	_, err := fmt.Fprintf(a.out, `  keys         %s

Nobody gets in without a key, and a tenant reaches nothing of another's. In another terminal, as tenant %[2]s:

  export NATS_URL=%[3]s HERSH_TLS_CA=%[4]s
  export HERSH_NKEY=%[5]s
  hersh deploy DIR --user %[2]s --start --wait
  hersh ps
  nats --tlsca "$HERSH_TLS_CA" --nkey "$HERSH_NKEY" sub 'hersh.feed.%[2]s.>'    (any NATS client can watch and take part)

As an operator, HERSH_NKEY=%[6]s.
To let somebody else in, hersh tenants add NAME --dir %[7]s, and then kill -HUP %[8]d.

Ctrl-C ends it.
`, filepath.Dir(srv.keys.KeyFile(who)), who, srv.URL(), srv.keys.CertFile(), srv.keys.KeyFile(tenants.TenantKeyName(events.UserID(who))),
		srv.keys.KeyFile(tenants.Provisioner), filepath.Join(cmd.Dir, "nats"), os.Getpid())
	return err
}
