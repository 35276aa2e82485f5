package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
)

// metaSync is the metadata of the request API by which a process that also runs the NATS server tells how it syncs.
const metaSync = "nats_sync"

const (
	doctorTimeout = 10 * time.Second // Of one check.
	askTimeout    = time.Second      // Of a question that may have no answer.
)

type doctorCmd struct {
	Runtime    string `help:"Container runtime that programs are to run under." enum:"runsc,runc" default:"runsc"`
	SkipDocker bool   `help:"Check only the bus, as on a machine that runs no executor."`
}

// The verdicts of a check.
const (
	fine    = "ok"
	warning = "warning" // It works, but not as well as it should, or it cannot be told.
	failed  = "failed"
	skipped = "skipped" // Not looked at, since something before it failed.
)

// finding is the result of one check.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Remedy  string `json:"remedy,omitempty"`
}

// Run prints a line a check, as it comes.
func (cmd *doctorCmd) Run(a *app) error {
	r := &doctor{a: a}
	r.bus()
	if !cmd.SkipDocker {
		r.docker(cmd.Runtime)
	}
	if a.json() {
		if err := a.print(r.findings); err != nil {
			return err
		}
	}
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	if r.failures > 0 {
		return &exitCode{code: exitFailed}
	}
	return nil
}

type doctor struct {
	a        *app
	findings []finding
	failures int
	hosts    int // That have no problem.
}

func (r *doctor) tell(check, verdict, detail, remedy string) {
	f := finding{check, verdict, oneLine(detail), remedy}
	r.findings = append(r.findings, f)
	if verdict == failed {
		r.failures++
	}
	if r.a.json() {
		return
	}
	r.a.printLine(fmt.Sprintf("%-8s %-12s %s", f.Verdict, f.Check, f.Detail))
	if f.Remedy != "" {
		r.a.printLine(strings.Repeat(" ", 22) + "→ " + f.Remedy)
	}
}

func (r *doctor) skip(why string, checks ...string) {
	for _, check := range checks {
		r.tell(check, skipped, why, "")
	}
}

// bus checks NATS and what of Hersh is on it.
func (r *doctor) bus() {
	c, err := r.a.connect()
	if err != nil {
		r.tell("NATS", failed, fmt.Sprintf("cannot connect to %s: %s", bus.Redact(r.a.Server), rootCause(err)),
			"start `hersh dev`, or a nats-server with JetStream, and name it with --server or NATS_URL")
		r.skip("there is no NATS server", "JetStream", "sync", "streams", "supervisor", "executors")
		return
	}
	defer c.Close()
	r.tell("NATS", fine, fmt.Sprintf("%s, server %s, version %s", bus.Redact(c.Conn().ConnectedUrlRedacted()),
		c.Conn().ConnectedServerName(), c.Conn().ConnectedServerVersion()), "")
	if tenant, err := c.Tenant(r.a.ctx); err == nil && tenant != "" {
		r.tenant(c, tenant)
		return
	}
	js, err := jetstream.New(c.Conn())
	if err == nil {
		err = r.jetStream(js)
	}
	if err != nil {
		r.tell("JetStream", failed, rootCause(err).Error(), "turn it on in the configuration of the NATS server: jetstream { store_dir: ... }")
		r.skip("there is no JetStream", "sync", "streams", "supervisor", "executors")
		return
	}
	r.sync(c.Conn())
	r.streams(js)
	r.supervisor(c.Conn())
	r.executors(c)
}

// tenant checks what a tenant can see.
func (r *doctor) tenant(c *client.Client, tenant events.UserID) {
	r.skip("this is the key of tenant "+string(tenant)+": only an operator sees it", "JetStream", "sync", "streams", "executors")
	ctx, cancel := context.WithTimeout(r.a.ctx, doctorTimeout)
	defer cancel()
	programs := 0
	for _, err := range c.List(ctx, tenant) {
		if err != nil {
			r.tell("supervisor", failed, r.a.explain(err), "ask who operates this Hersh")
			return
		}
		programs++
	}
	r.tell("supervisor", fine, fmt.Sprintf("answers; %s", count(programs, "program")), "")
}

func (r *doctor) jetStream(js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(r.a.ctx, doctorTimeout)
	defer cancel()
	info, err := js.AccountInfo(ctx)
	if err != nil {
		return err
	}
	r.tell("JetStream", fine, fmt.Sprintf("on, %d streams, %s on disk", info.Streams, byteSize(int64(info.Store))), "") // #nosec G115 -- No disk has 2^63 bytes.
	return nil
}

const syncRemedy = "set `sync_interval: always` in the jetstream block of every NATS server"

// sync looks whether the server syncs each write. Only the process that runs the server, or who has the system account, can tell.
func (r *doctor) sync(nc *nats.Conn) {
	if serviceMetadata(nc)[metaSync] == syncAlways {
		r.tell("sync", fine, "every event is synced to disk before it is acknowledged (`hersh dev` runs this server)", "")
		return
	}
	always, known := syncSetting(nc)
	switch {
	case !known:
		r.tell("sync", warning, "cannot be seen from here: only the system account of NATS may read it", "see that the operator did "+syncRemedy)
	case always:
		r.tell("sync", fine, "every event is synced to disk before it is acknowledged", "")
	default:
		r.tell("sync", failed, "events are acknowledged before they are on disk: a power failure loses some", syncRemedy)
	}
}

// syncSetting asks the server for its JetStream settings, which only the system account gets.
func syncSetting(nc *nats.Conn) (always, known bool) {
	answer, err := nc.Request("$SYS.REQ.SERVER.PING.JSZ", []byte(`{}`), askTimeout)
	if err != nil {
		return false, false
	}
	var reply struct {
		Data *struct {
			Config struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
		} `json:"data"`
	}
	if json.Unmarshal(answer.Data, &reply) != nil || reply.Data == nil {
		return false, false
	}
	return reply.Data.Config.SyncAlways, true
}

// serviceMetadata is what an instance of the request API says of itself; nil where none answers.
func serviceMetadata(nc *nats.Conn) map[string]string {
	subject, err := micro.ControlSubject(micro.InfoVerb, events.ServiceName, "")
	if err != nil {
		return nil
	}
	answer, err := nc.Request(subject, nil, askTimeout)
	if err != nil {
		return nil
	}
	var info micro.Info
	if json.Unmarshal(answer.Data, &info) != nil {
		return nil
	}
	return info.Metadata
}

// streams looks for what a supervisor makes when it starts.
func (r *doctor) streams(js jetstream.JetStream) {
	var missing []string
	for _, name := range []string{
		events.StreamWake, events.StreamEffects, events.StreamLogs,
		"KV_" + events.BucketPrograms, "KV_" + events.BucketHosts, "OBJ_" + events.BucketSources,
	} {
		ctx, cancel := context.WithTimeout(r.a.ctx, doctorTimeout)
		_, err := js.Stream(ctx, name)
		cancel()
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			missing = append(missing, name)
		} else if err != nil {
			r.tell("streams", failed, rootCause(err).Error(), "try again; look into the log of the NATS server")
			return
		}
	}
	if len(missing) > 0 {
		r.tell("streams", failed, "missing: "+strings.Join(missing, ", "), "start a supervisor; it makes them")
		return
	}
	r.tell("streams", fine, "all are there", "")
}

func (r *doctor) supervisor(nc *nats.Conn) {
	subject, err := micro.ControlSubject(micro.PingVerb, events.ServiceName, "")
	if err == nil {
		_, err = nc.Request(subject, nil, askTimeout)
	}
	if err != nil {
		r.tell("supervisor", failed, "none answers", "start `hersh dev`, or the supervisor service")
		return
	}
	r.tell("supervisor", fine, "answers", "")
}

func (r *doctor) executors(c *client.Client) {
	ctx, cancel := context.WithTimeout(r.a.ctx, doctorTimeout)
	defer cancel()
	hosts, err := c.Hosts(ctx)
	if err != nil {
		r.tell("executors", failed, "cannot be listed: "+r.a.explain(err), "")
		return
	}
	r.tellHosts(hosts)
}

// tellHosts says how the hosts are. One that is away is only remembered to be drained, and somebody is at work on it.
func (r *doctor) tellHosts(hosts []client.Host) {
	hosts = slices.DeleteFunc(hosts, func(h client.Host) bool { return h.Away })
	if len(hosts) == 0 {
		r.tell("executors", failed, "none says that it is there", "start `hersh dev`, or the executor service on a Docker host")
	}
	for _, h := range hosts {
		if h.Problem != "" {
			r.tell("executors", failed, fmt.Sprintf("%s: %s", h.HostID, h.Problem), "mend it on that host; the executor goes on by itself")
			continue
		}
		r.hosts++
		r.tell("executors", fine, fmt.Sprintf("%s: %s, Docker %s, %d running", h.HostID, h.DefaultRuntime, orDash(h.Docker), h.Running), "")
	}
}
