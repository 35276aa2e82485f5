package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

type hostsCmd struct {
	List    hostsListCmd    `cmd:"" default:"1" help:"List the hosts that run programs."`
	Drain   hostsDrainCmd   `cmd:"" help:"Let a host take no new program; what is there goes on, unless --stop."`
	Undrain hostsUndrainCmd `cmd:"" help:"Let a host take new programs again."`
}

type hostsListCmd struct{}

func (cmd *hostsListCmd) Run(a *app) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	hosts, err := c.Hosts(a.ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(hosts)
	}
	if len(hosts) == 0 {
		a.note("No host is there: no executor runs, or none has said so yet.")
		return nil
	}
	rows := [][]string{{"HOST", "STATE", "RUNTIME", "DOCKER", "BUILDS", "PROGRAMS", "RUNNING", "CPUS", "MEMORY", "UP", "PROBLEM"}}
	for _, h := range hosts {
		rows = append(rows, hostRow(h, time.Now()))
	}
	return a.table(rows)
}

// hostRow shows what is promised of what there is; what has no bound is shown alone.
func hostRow(h client.Host, now time.Time) []string {
	if h.Away {
		return []string{string(h.HostID), hostState(h), "-", "-", "-", "-", "-", "-", "-", "-", ""}
	}
	of := func(used, most string, bounded bool) string {
		if !bounded {
			return used
		}
		return used + " of " + most
	}
	cpus := func(millis int64) string { return strconv.FormatFloat(float64(millis)/1000, 'g', -1, 64) }
	c, p := h.Capacity, h.Promised
	return []string{
		string(h.HostID), hostState(h), h.DefaultRuntime, orDash(h.Docker),
		of(strconv.Itoa(h.Building), strconv.Itoa(h.BuildSlots), true),
		of(strconv.Itoa(p.Programs), strconv.Itoa(c.Programs), c.Programs > 0), strconv.Itoa(h.Running),
		of(cpus(p.CPUMillis), cpus(c.CPUMillis), c.CPUMillis > 0),
		of(byteSize(p.MemoryBytes), byteSize(c.MemoryBytes), c.MemoryBytes > 0),
		age(now, h.Started), h.Problem,
	}
}

func hostState(h client.Host) string {
	switch {
	case h.Away:
		return "drained, away"
	case h.Drain && !h.Drained:
		return "draining"
	case h.Drain:
		return "drained"
	case h.Problem != "":
		return "in trouble"
	}
	return "ready"
}

type hostsDrainCmd struct {
	Host string `arg:"" help:"Host ID, as in hersh hosts."`
	Stop bool   `help:"Stop the programs that are there, too. They keep their place and their /state."`
}

// drained is what the client learned, and whether the host has said that it obeys.
type drained struct {
	wire.DrainReply
	Obeyed bool `json:"obeyed"`
}

func (cmd *hostsDrainCmd) Run(a *app) error {
	var out drained
	host, err := a.withHost(cmd.Host, func(c *client.Client, host events.HostID) (err error) {
		out.DrainReply, out.Obeyed, err = c.Drain(a.ctx, host, cmd.Stop)
		return err
	})
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(out)
	}
	text := fmt.Sprintf("%s is drained: it takes no new program", host)
	if !out.Obeyed {
		text = fmt.Sprintf("%s is to be drained, and has not said yet that it is (see `hersh hosts`)", host)
	}
	switch {
	case cmd.Stop:
		text += fmt.Sprintf("; %s on it told to stop", count(out.Stopping, "program"))
	case out.Programs > 0:
		text += fmt.Sprintf("; %s on it", count(out.Programs, "program"))
	}
	a.printLine(text)
	return nil
}

type hostsUndrainCmd struct {
	Host string `arg:"" help:"Host ID, as in hersh hosts."`
}

func (cmd *hostsUndrainCmd) Run(a *app) error {
	host, err := a.withHost(cmd.Host, func(c *client.Client, host events.HostID) error { return c.Undrain(a.ctx, host) })
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(map[string]any{"hostId": host, "drained": false})
	}
	a.printLine(fmt.Sprintf("%s is no longer drained", host))
	return nil
}

// withHost connects, and does something to the host that somebody named.
func (a *app) withHost(name string, do func(*client.Client, events.HostID) error) (events.HostID, error) {
	host, err := events.ParseHostID(name)
	if err != nil {
		return "", wrongUsage("%s", err)
	}
	c, err := a.connect()
	if err != nil {
		return "", err
	}
	defer c.Close()
	return host, do(c, host)
}
