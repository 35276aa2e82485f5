package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/service"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

type tenantsCmd struct {
	Init      tenantsInitCmd      `cmd:"" help:"Make the configuration of a NATS server on which everybody has an account, and the keys of the services."`
	Add       tenantsAddCmd       `cmd:"" help:"Let a tenant in, and make their key."`
	Rm        tenantsRmCmd        `cmd:"" help:"Let a tenant in no more."`
	AddHost   tenantsAddHostCmd   `cmd:"" help:"Let the executor of a host in, and make its key."`
	RmHost    tenantsRmHostCmd    `cmd:"" help:"Let the executor of a host in no more."`
	List      tenantsListCmd      `cmd:"" help:"List who is let in."`
	Provision tenantsProvisionCmd `cmd:"" help:"Make the streams and buckets that all programs share, as the provisioner."`
}

// tenantsDir is the folder that every command of tenants works on.
type tenantsDir struct {
	Dir string `help:"Folder of the configuration." env:"HERSH_TENANTS_DIR" default:"nats" type:"path"`
}

func (d tenantsDir) open() tenants.Dir { return tenants.In(d.Dir) }

// changed tells of a change, and how the server is told.
func (d tenantsDir) changed(a *app, what, keyFile string) error {
	if a.json() {
		return a.print(map[string]string{"dir": d.Dir, "key": keyFile})
	}
	a.printLine(what)
	if keyFile != "" {
		a.printLine("  secret key   " + keyFile + "   (move it to its owner; nothing else needs it)")
	}
	a.printLine("The NATS server takes it without interrupting anybody: nats-server --signal reload, or kill -HUP its process.")
	a.printLine("Do that twice: an account that is new to a running server works from the second time on.")
	return nil
}

// explainTenants turns errors of the folder into sentences.
func (d tenantsDir) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sentence(fmt.Sprintf("there is no configuration in %s; make one with `hersh tenants init --dir %s`.", d.Dir, d.Dir))
	case errors.Is(err, tenants.ErrNotThere), errors.Is(err, tenants.ErrInvalidModel):
		return sentence(err.Error() + ".")
	}
	return err
}

type tenantsInitCmd struct {
	tenantsDir
	Listen   string   `help:"Address of the server for clients." default:"127.0.0.1:4222" placeholder:"HOST:PORT"`
	Store    string   `help:"Folder of the JetStream files. Default: jetstream, in the folder of the configuration." type:"path"`
	Cert     string   `help:"File with the server's certificate." type:"path"`
	Key      string   `help:"File with its secret key." type:"path"`
	SelfSign []string `help:"Instead: make a certificate for these names and addresses, by which clients check the server with --tls-ca." placeholder:"NAME"`
}

func (cmd *tenantsInitCmd) Run(a *app) error {
	store := cmd.Store
	if store == "" {
		store = filepath.Join(cmd.Dir, "jetstream")
	}
	d := cmd.open()
	if len(cmd.SelfSign) > 0 {
		if cmd.Cert != "" || cmd.Key != "" {
			return wrongUsage("say either --self-sign, or --cert and --key")
		}
		if err := d.SelfSign(cmd.SelfSign, time.Now()); err != nil {
			return wrongUsage("%s", err)
		}
		cmd.Cert, cmd.Key = d.CertFile(), d.CertKeyFile()
	}
	err := d.Init(tenants.ServerOptions{Listen: cmd.Listen, StoreDir: store, TLSCert: cmd.Cert, TLSKey: cmd.Key})
	if err != nil {
		return wrongUsage("%s", err)
	}
	if a.json() {
		return a.print(map[string]string{"dir": cmd.Dir, "config": d.ServerConfig(), "supervisor": d.KeyFile(tenants.Supervisor), "provisioner": d.KeyFile(tenants.Provisioner)})
	}
	a.printLine("The configuration is in " + cmd.Dir + ".")
	a.printLine("  start the server        nats-server --config " + d.ServerConfig())
	a.printLine("  make the streams once   hersh tenants provision --dir " + cmd.Dir)
	a.printLine("  let somebody in         hersh tenants add USER, hersh tenants add-host HOST")
	a.printLine("  start a supervisor      supervisor --nkey " + d.KeyFile(tenants.Supervisor))
	return nil
}

type tenantsAddCmd struct {
	User string `arg:"" help:"Name of the tenant: the owner of their programs."`
	tenantsDir
}

func (cmd *tenantsAddCmd) Run(a *app) error {
	user, err := parseUser(cmd.User)
	if err != nil {
		return err
	}
	if err := cmd.open().AddTenant(user); err != nil {
		return cmd.explain(err)
	}
	return cmd.changed(a, "Tenant "+string(user)+" is let in.", cmd.open().KeyFile(tenants.TenantKeyName(user)))
}

type tenantsRmCmd struct {
	User string `arg:"" help:"Name of the tenant."`
	tenantsDir
}

func (cmd *tenantsRmCmd) Run(a *app) error {
	user, err := parseUser(cmd.User)
	if err != nil {
		return err
	}
	if err := cmd.open().RemoveTenant(user); err != nil {
		return cmd.explain(err)
	}
	return cmd.changed(a, "Tenant "+string(user)+" is let in no more. Their programs stay as they are.", "")
}

type tenantsAddHostCmd struct {
	Host string `arg:"" help:"HostID of the executor."`
	tenantsDir
}

func (cmd *tenantsAddHostCmd) Run(a *app) error {
	host, err := events.ParseHostID(cmd.Host)
	if err != nil {
		return wrongUsage("%s", err)
	}
	if err := cmd.open().AddHost(host); err != nil {
		return cmd.explain(err)
	}
	return cmd.changed(a, "Host "+string(host)+" is let in.", cmd.open().KeyFile(tenants.HostKeyName(host)))
}

type tenantsRmHostCmd struct {
	Host string `arg:"" help:"HostID of the executor."`
	tenantsDir
}

func (cmd *tenantsRmHostCmd) Run(a *app) error {
	host, err := events.ParseHostID(cmd.Host)
	if err != nil {
		return wrongUsage("%s", err)
	}
	if err := cmd.open().RemoveHost(host); err != nil {
		return cmd.explain(err)
	}
	return cmd.changed(a, "Host "+string(host)+" is let in no more.", "")
}

type tenantsListCmd struct{ tenantsDir }

func (cmd *tenantsListCmd) Run(a *app) error {
	m, err := cmd.open().Load()
	if err != nil {
		return cmd.explain(err)
	}
	if a.json() {
		return a.print(m)
	}
	rows := [][]string{
		{"KIND", "NAME", "PUBLIC KEY", "INBOX PREFIX"},
		{"service", tenants.Provisioner, string(m.Provisioner), tenants.InboxPrefix(m.Provisioner)},
		{"service", tenants.Supervisor, string(m.Supervisor), tenants.InboxPrefix(m.Supervisor)},
	}
	var members [][]string
	for host, key := range m.Hosts {
		members = append(members, []string{"host", string(host), string(key), tenants.InboxPrefix(key)})
	}
	for user, key := range m.Tenants {
		members = append(members, []string{"tenant", string(user), string(key), tenants.InboxPrefix(key)})
	}
	slices.SortFunc(members, func(a, b []string) int { return slices.Compare(a[:2], b[:2]) })
	return a.table(append(rows, members...))
}

type tenantsProvisionCmd struct {
	tenantsDir
	Replicas int `help:"Copies of every stream: 1, or 3 on a cluster." enum:"1,3" default:"1"`
}

// Run connects with the key that is asked for, or else with that of the folder.
func (cmd *tenantsProvisionCmd) Run(a *app) error {
	if !a.Access.Set() {
		a.NKey = cmd.open().KeyFile(tenants.Provisioner)
	}
	url, opts, err := a.access()
	if err != nil {
		return err
	}
	log, err := service.NewLogger(a.errOut, service.LogText, "warn")
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url, append(opts, nats.Name("hersh tenants provision"))...)
	if err != nil {
		return &connectError{server: bus.Redact(url), err: err}
	}
	defer nc.Close()
	tenant, err := client.New(nc).Tenant(a.ctx)
	if err != nil {
		return err
	}
	if tenant != "" {
		return wrongUsage("this is the key of tenant %s; streams and buckets are made with that of the provisioner", tenant)
	}
	if err := provision(a.ctx, nc, cmd.Replicas, log); err != nil {
		return err
	}
	return a.printIfDone(map[string]bool{"provisioned": true}, "The streams and buckets of Hersh are there.")
}

// provision makes what all programs share, on a connection of the provisioner.
func provision(ctx context.Context, nc *nats.Conn, replicas int, log *slog.Logger) error {
	b, err := bus.New(nc, log, bus.Options{Replicas: replicas})
	if err != nil {
		return err
	}
	return b.Provision(ctx)
}

// access says where and as whom to connect.
func (a *app) access() (url string, opts []nats.Option, err error) {
	url, opts, err = a.Access.Resolve(a.Server)
	if err != nil {
		err = wrongUsage("%s", err)
	}
	return url, opts, err
}

func (a *app) printIfDone(v any, line string) error {
	if a.json() {
		return a.print(v)
	}
	a.printLine(line)
	return nil
}
