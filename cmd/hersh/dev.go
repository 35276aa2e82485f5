package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
	"github.com/rlaaudgjs5638/hersh/internal/service"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

type devCmd struct {
	Dir      string   `help:"Folder for everything that is kept. Default: ~/.hersh." type:"path"`
	Listen   string   `help:"Address of the NATS server; port 0 is any free one. Default: ${default}." default:"127.0.0.1:4222" placeholder:"HOST:PORT"`
	Runtime  string   `help:"Container runtime: runsc is gVisor; runc is a weaker sandbox." enum:"runsc,runc" default:"runsc"`
	Secure   bool     `help:"As for tenants: accounts, keys and TLS as 'hersh tenants' makes them, kept in a folder of their own below --dir."`
	Tenant   []string `help:"With --secure: who is let in." default:"alice,bob" placeholder:"NAME"`
	Fake     bool     `help:"Run no containers: everything is only pretended, without Docker."`
	Http     string   `help:"Address for /healthz, /readyz and /metrics. Default: off." placeholder:"HOST:PORT"`
	LogLevel string   `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"warn"`
}

// syncAlways is what `hersh doctor` is told of the NATS server of this process.
const syncAlways = "always"

// AfterApply refuses flags that say where a server is. Environment variables may say so: they are for the commands beside this one.
func (cmd *devCmd) AfterApply(line *kong.Context) error {
	for _, part := range line.Path {
		if flag := part.Flag; flag != nil && flag.Group != nil && flag.Group.Key == groupServer {
			return fmt.Errorf("--%s is not for dev, which runs a server of its own; --listen says where", flag.Name)
		}
	}
	return nil
}

func (cmd *devCmd) Run(a *app) error {
	log, err := service.NewLogger(a.errOut, service.LogText, cmd.LogLevel)
	if err != nil {
		return wrongUsage("%s", err)
	}
	host, port, err := splitListen(cmd.Listen)
	if err != nil {
		return err
	}
	if err := probeHTTP(cmd.Http); err != nil {
		return err
	}
	if cmd.Dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return sentence("nothing says where your home is; name a folder with --dir.")
		}
		cmd.Dir = filepath.Join(home, ".hersh")
	}
	if ip := net.ParseIP(host); !cmd.Secure && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		a.note("hersh: nothing here asks for a password: whoever reaches %s can run programs on this machine.", cmd.Listen)
	}
	if cmd.Secure {
		cmd.Dir = filepath.Join(cmd.Dir, "secure") // Apart, host and all: a host belongs to one bus.
	}
	unlock, err := lockDir(cmd.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	hostID, err := devHostID(cmd.Dir)
	if err != nil {
		return err
	}
	srv, err := cmd.startServer(a.ctx, host, port, hostID, log)
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	return cmd.serve(a, srv, hostID, log)
}

// devServer is the NATS server of hersh dev.
type devServer struct {
	*natsserver.Server
	keys *tenants.Dir // Where everybody's keys are; nil where nothing asks for one.
	log  *slog.Logger
}

// dial connects a part of Hersh as the user whose key is so called.
func (s *devServer) dial(key string) (*nats.Conn, error) {
	var access bus.Access
	if s.keys != nil {
		access = bus.Access{NKey: s.keys.KeyFile(key), TLSCA: s.keys.CertFile()}
	}
	url, opts, err := access.Resolve(s.URL())
	if err != nil {
		return nil, err
	}
	return bus.Dial(url, "hersh dev, "+key, s.log, opts...)
}

// bus says how the parts use the bus: with keys, none of them may make what all share.
func (s *devServer) bus() bus.Options { return bus.Options{Bind: s.keys != nil} }

// startServer starts the NATS server.
func (cmd *devCmd) startServer(ctx context.Context, host string, port int, hostID events.HostID, log *slog.Logger) (*devServer, error) {
	if err := probe(host, port); err != nil {
		return nil, err
	}
	if port == 0 {
		port = -1 // As NATS spells any free one.
	}
	if cmd.Secure {
		return cmd.startSecure(ctx, host, port, hostID, log)
	}
	srv, err := natsserver.Start(natsserver.Options{Dir: filepath.Join(cmd.Dir, "nats"), Host: host, Port: port, Log: log})
	if err != nil {
		return nil, err
	}
	return &devServer{Server: srv, log: log}, nil
}

// serve runs the supervisor and the executor until Ctrl-C.
func (cmd *devCmd) serve(a *app, srv *devServer, hostID events.HostID, log *slog.Logger) error {
	registry := service.NewRegistry()
	nc, err := srv.dial(tenants.Supervisor)
	if err != nil {
		return err
	}
	defer closeConn(nc)
	sup, err := supervisord.Start(a.ctx, nc, supervisord.Options{
		Name: string(hostID), Bus: srv.bus(), Log: log, Registry: registry, Metadata: map[string]string{metaSync: syncAlways},
	})
	if err != nil {
		return err
	}
	defer sup.Stop()
	hostConn, err := srv.dial(tenants.HostKeyName(hostID))
	if err != nil {
		return err
	}
	defer closeConn(hostConn)
	exec, err := startExecutor(a.ctx, hostConn, executorOptions{
		hostID: hostID, bus: srv.bus(), dir: cmd.Dir, runtime: cmd.Runtime, fake: cmd.Fake, log: log, registry: registry,
	})
	if err != nil {
		return err
	}
	defer exec.Stop()
	monitor, err := service.StartMonitor(cmd.Http, registry, log, append(sup.Checks(), exec.Checks()...)...)
	if err != nil {
		return err
	}
	defer monitor.Stop()
	if err := cmd.banner(a, srv, monitor.Addr()); err != nil {
		return err
	}
	srv.reloadUntil(a.ctx)
	if !a.json() {
		a.note("Stopping. Work in hand is waited for, up to 10 s; Ctrl-C again ends at once.")
		if !cmd.Fake {
			a.note("Containers go on running, and are found again at the next start.")
		}
	}
	return nil
}

func (cmd *devCmd) banner(a *app, srv *devServer, monitor string) error {
	url := srv.URL()
	if a.json() {
		return a.print(map[string]string{"server": url, "dir": cmd.Dir})
	}
	runtime := "runsc (gVisor)"
	switch {
	case cmd.Fake:
		runtime = "none: everything is only pretended (--fake)"
	case cmd.Runtime == "runc":
		runtime = "runc: programs share this machine's kernel, a weaker sandbox than gVisor"
	}
	fmt.Fprintf(a.out, `Hersh is running.

  NATS server  %s
  containers   %s
  kept in      %s
`, url, runtime, cmd.Dir)
	if monitor != "" {
		fmt.Fprintf(a.out, "  metrics      http://%s/metrics\n", monitor)
	}
	if srv.keys != nil {
		return cmd.secureBanner(a, srv)
	}
	server := ""
	if url != bus.DefaultServer {
		server = "  export NATS_URL=" + url + "\n"
	}
	_, err := fmt.Fprintf(a.out, `
In another terminal:

%s  hersh deploy DIR --user alice --start --wait
  hersh ps
  nats sub 'hersh.feed.>'    (any NATS client can watch and take part)

Ctrl-C ends it.
`, server)
	return err
}

// splitListen reads host:port. NATS takes -1 for any free port.
func splitListen(listen string) (string, int, error) {
	host, text, err := net.SplitHostPort(listen)
	port, convErr := strconv.Atoi(text)
	if err != nil || convErr != nil || port < 0 || port > 65535 {
		return "", 0, wrongUsage("--listen %q is not an address like 127.0.0.1:4222", listen)
	}
	if host == "" {
		host = "127.0.0.1" // Nothing asks for a password here, so other machines are let in only by name.
	}
	return host, port, nil
}

// lockDir makes sure that this process is the only one that works in the folder. The lock goes with the process.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- The folder is one that the user of this process named.
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // Nothing was written.
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, sentence(fmt.Sprintf("another `hersh dev` runs on %s. Stop it, or name another folder with --dir.", dir))
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// devHostID is the host ID of the folder, made once. It is random, since several may share one Docker daemon, where each touches only
// the containers of its own host.
func devHostID(dir string) (events.HostID, error) {
	path := filepath.Join(dir, "host-id")
	data, err := os.ReadFile(path) // #nosec G304 -- The folder is one that the user of this process named.
	if errors.Is(err, fs.ErrNotExist) {
		random := make([]byte, 4)
		_, _ = rand.Read(random) // Never fails.
		data = []byte("dev-" + hex.EncodeToString(random))
		err = os.WriteFile(path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return "", err
	}
	id, err := events.ParseHostID(strings.TrimSpace(string(data)))
	if err != nil {
		return "", sentence(fmt.Sprintf("%s does not hold a host ID: %s. Programs of this folder are on that host; put it right.", path, err))
	}
	return id, nil
}

// probe says what is wrong with an address beforehand: the server itself would say it in its log only, after a minute.
func probe(host string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return sentence(fmt.Sprintf("port %d of %s is in use. Another NATS server or `hersh dev` may run there; stop it, or choose another with --listen.", port, host))
	case err != nil:
		return sentence(fmt.Sprintf("cannot listen on %s port %d: %s.", host, port, rootCause(err)))
	}
	_ = l.Close() // Nothing came of it.
	return nil
}

// probeHTTP says the same of the address for metrics, before anything is started.
func probeHTTP(address string) error {
	if address == "" {
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return sentence(fmt.Sprintf("cannot listen on --http %s: %s.", address, rootCause(err)))
	}
	_ = l.Close() // Nothing came of it.
	return nil
}

// closeConn waits until the connection is closed: its callbacks may still run.
func closeConn(nc *nats.Conn) {
	closed := nc.StatusChanged(nats.CLOSED)
	nc.Close()
	<-closed
}
