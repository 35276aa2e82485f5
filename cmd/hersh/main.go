// Command hersh is the command line of Hersh: it deploys, starts, stops and follows programs, shows and checks what their
// logs say, and runs all of Hersh in one process for development.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/rlaaudgjs5638/hersh/internal/bus"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs one command and returns the exit code of the process.
func run(args []string, out, errOut *os.File) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("hersh"), kong.Description(description), kong.Writers(out, errOut),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(errOut, "hersh:", err)
		return exitFailed
	}
	if len(args) == 0 || args[0] == "help" {
		args = append(args[min(len(args), 1):], "--help") // "help deploy" is "deploy --help".
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errOut, "hersh: %s\nSee `hersh --help`, or `hersh COMMAND --help`.\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.

	a := newApp(ctx, c.globals, out, errOut)
	return a.finish(command.Run(a))
}

const description = `Hersh runs programs in a sandbox and keeps every fact about them as an event that can be replayed.

A program is a folder with a Dockerfile. Begin with "hersh dev" in one terminal, and in another with
"hersh deploy DIR --user NAME --start --wait".

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the program ended in Error (with --wait).`

type cli struct {
	globals

	Dev     devCmd     `cmd:"" help:"Run all of Hersh in this process, for development."`
	Deploy  deployCmd  `cmd:"" help:"Upload a folder with a Dockerfile and make a new program of it. Every deploy makes another one; stop and delete the old."`
	Start   startCmd   `cmd:"" help:"Ask for a program to be built and started."`
	Stop    stopCmd    `cmd:"" help:"Ask for a program to be stopped."`
	Restart restartCmd `cmd:"" help:"Ask for a running program to be stopped, built and started."`
	Ps      psCmd      `cmd:"" aliases:"list,ls" help:"List programs."`
	Status  statusCmd  `cmd:"" help:"Show the newest state of a program."`
	Hosts   hostsCmd   `cmd:"" help:"List the hosts that run programs; drain one."`
	Logs    logsCmd    `cmd:"" help:"Show what a program printed."`
	History historyCmd `cmd:"" help:"Show every event of a program and what it did."`
	Replay  replayCmd  `cmd:"" help:"Show a program as it was at some point."`
	Audit   auditCmd   `cmd:"" help:"Replay logs and compare them with the read model."`
	Delete  deleteCmd  `cmd:"" aliases:"rm,remove" help:"Delete a program that does not run, and its log."`
	Doctor  doctorCmd  `cmd:"" help:"Check what Hersh needs."`
	Tenants tenantsCmd `cmd:"" help:"Say who is let in: accounts and keys of a NATS server for more people than one."`
	Sim     simCmd     `cmd:"" help:"Simulate a small world full of faults, and check that every promise holds."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// groupServer is the heading of the flags that say where the server is and who asks.
const groupServer = "Server:"

type globals struct {
	Server     string `group:"Server:" help:"URL of the NATS server; default ${default}, or that of --context." env:"NATS_URL" default:"nats://127.0.0.1:4222" placeholder:"URL"`
	bus.Access `embed:"" group:"Server:"`
	Output     string `group:"Output:" short:"o" help:"What to print: a table for people, or json." enum:"table,json" default:"table"`
	Verbose    bool   `group:"Output:" short:"v" help:"Show errors with all their causes."`
}
