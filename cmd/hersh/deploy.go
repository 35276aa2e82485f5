package main

import (
	"errors"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
)

const leastCPUs = events.MinCPUMillis / 1000.0

type deployCmd struct {
	Dir    string  `arg:"" help:"Folder with a Dockerfile." type:"path"`
	User   string  `short:"u" required:"" help:"Owner of the program." placeholder:"NAME"`
	Start  bool    `help:"Start it at once."`
	Memory string  `help:"Most memory, such as 256m or 1g." placeholder:"SIZE"`
	Cpus   float64 `help:"Most CPUs, such as 0.5." placeholder:"N"`
	Pids   int64   `help:"Most processes and threads." placeholder:"N"`
	waitFlags
}

type deployed struct {
	ProgramID events.ProgramID `json:"programId"`
	*outcome
}

func (cmd *deployCmd) Run(a *app) error {
	user, err := parseUser(cmd.User)
	if err != nil {
		return err
	}
	limits, err := cmd.limits()
	if err != nil {
		return err
	}
	if info, err := os.Stat(cmd.Dir); err == nil && !info.IsDir() {
		return wrongUsage("%s is a file; give the folder that holds the Dockerfile", cmd.Dir)
	}
	if cmd.Wait && !cmd.Start {
		return wrongUsage("--wait needs --start: a program that is only created does nothing to wait for")
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	line := a.progress()
	id, err := c.Deploy(a.ctx, cmd.Dir, user, client.DeployOptions{Limits: limits, Progress: func(sent, total int64) {
		line.show("uploading %s of %s", byteSize(sent), byteSize(total))
	}})
	line.clear()
	if err != nil {
		return err
	}
	if !a.json() {
		a.printLine(string(id)) // At once: it may take long until the program runs, and it is there already.
	}
	if !cmd.Start {
		return a.printIfJSON(deployed{ProgramID: id})
	}
	seq, err := c.Start(a.ctx, id)
	if err != nil {
		return errors.Join(err, a.printIfJSON(deployed{ProgramID: id}))
	}
	out, err := a.await(c, id, seq, cmd.waitFlags)
	if err != nil {
		return errors.Join(err, a.printIfJSON(deployed{ProgramID: id}))
	}
	if err := a.printIfJSON(deployed{ProgramID: id, outcome: &out}); err != nil {
		return err
	}
	if !a.json() && out.State != nil && startWanted(*out.State) {
		a.note("%s is %s", short(id), out.State) // Beside the output, which is the ID and nothing else.
	}
	return a.judge(id, out, cmd.Wait, startWanted)
}

func (cmd *deployCmd) limits() (events.Limits, error) {
	memory, err := parseSize(cmd.Memory)
	if err != nil {
		return events.Limits{}, err
	}
	switch {
	case memory > 0 && memory < events.MinMemoryBytes:
		return events.Limits{}, wrongUsage("--memory %s is less than Docker takes, which is 6m", cmd.Memory)
	case !(cmd.Cpus >= 0 && cmd.Cpus < 1e6):
		return events.Limits{}, wrongUsage("--cpus %v is not a number of CPUs", cmd.Cpus)
	case cmd.Cpus > 0 && cmd.Cpus < leastCPUs:
		return events.Limits{}, wrongUsage("--cpus %v is less than Docker takes, which is %v", cmd.Cpus, leastCPUs)
	case cmd.Pids < 0:
		return events.Limits{}, wrongUsage("--pids %d is not a number of processes", cmd.Pids)
	}
	return events.Limits{MemoryBytes: memory, CPUMillis: int64(math.Round(cmd.Cpus * 1000)), Pids: cmd.Pids}, nil
}

// parseSize reads a number of bytes, in powers of 1024 with k, m or g; "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	number, shift := strings.ToLower(s), 0
	for i, unit := range []string{"k", "m", "g"} {
		if rest, found := strings.CutSuffix(number, unit); found {
			number, shift = rest, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, wrongUsage("--memory %q is not a size such as 256m or 1g", s)
	}
	return n << shift, nil
}

// byteSize writes a size for people.
func byteSize(n int64) string {
	switch {
	case n < 10<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 10<<20:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatInt(n>>20, 10) + " MiB"
}
