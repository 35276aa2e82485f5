package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/hershtest"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

// The scripts run this very test binary as the command hersh, in processes of its own.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"hersh": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScripts runs each script against a Hersh of its own, in this process, whose host only pretends: on a server that asks for nothing,
// and, as an operator, on one with accounts, keys and TLS. A script whose name begins with dev- starts its own; one that begins with
// tenant- is run as tenant alice.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		own, tenant := strings.HasPrefix(name, "dev-"), strings.HasPrefix(name, "tenant-")
		if !tenant {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := &script{t: t}
				if !own {
					s.stack = hershtest.Start(t, scriptHandler(name))
				}
				s.run(file)
			})
		}
		if !own {
			t.Run("secure/"+name, func(t *testing.T) {
				t.Parallel()
				s := &script{t: t, key: tenants.Provisioner, stack: hershtest.StartSecure(t, scriptHandler(name), "alice", "bob")}
				if tenant {
					s.key = tenants.TenantKeyName("alice")
				}
				s.run(file)
			})
		}
	}
}

func (s *script) run(file string) {
	testscript.Run(s.t, testscript.Params{
		Files: []string{file}, Setup: s.setup, RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"capture": cmdCapture, "exitcode": cmdExitCode, "publish": s.publish, "crash": s.crash, "ship": s.ship,
			"settle": s.settle, "waitfor": cmdWaitFor, "retry": cmdRetry, "forget": s.forget, "tamper": s.tamper,
		},
	})
}

// scriptHandler is what the host of a script does.
func scriptHandler(name string) *effects.FakeEffectHandler {
	h := effects.NewFakeEffectHandler()
	h.FailBuild = strings.HasSuffix(name, "-fail-build")
	if strings.HasPrefix(name, "slow-") {
		h.Delay = time.Hour
	}
	return h
}

type script struct {
	t     *testing.T
	stack *hershtest.Stack
	key   string // Of whom it is run as, where there are keys.
}

func (s *script) setup(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("TERM", "dumb")
	env.Setenv("GORACE", "atexit_sleep_ms=10") // The default of a second is most of the time that a script takes.
	if s.stack != nil {
		env.Setenv("NATS_URL", s.stack.URL())
		if secure := s.stack.Secure; secure != nil {
			env.Setenv("HERSH_NKEY", secure.Dir.KeyFile(s.key))
			env.Setenv("HERSH_TLS_CA", secure.Dir.CertFile())
			env.Setenv("KEYS", filepath.Dir(secure.Dir.KeyFile(s.key)))
		}
		return nil
	}
	port, err := freePort()
	env.Setenv("LISTEN", fmt.Sprintf("127.0.0.1:%d", port))
	env.Setenv("NATS_URL", fmt.Sprintf("nats://127.0.0.1:%d", port))
	return err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *script) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// cmdCapture VAR keeps the last stdout in an environment variable; VAR:12 its last 12 characters.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: capture VAR [LAST]")
	}
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) == 2 {
		n := 0
		_, err := fmt.Sscan(args[1], &n)
		ts.Check(err)
		text = text[len(text)-n:]
	}
	ts.Setenv(args[0], text)
}

// cmdExitCode N COMMAND ... runs a command and expects its exit code; its output is for stdout and stderr as after exec.
func cmdExitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND ...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s%s", code, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// cmdRetry COMMAND ... runs a command again and again until it succeeds.
func cmdRetry(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for ts.Exec(args[0], args[1:]...) != nil {
		select {
		case <-deadline.C:
			ts.Fatalf("%v failed again and again", args)
		case <-poll.C:
		}
	}
}

// publish ID TYPE DATA publishes to a program as any NATS client can.
func (s *script) publish(ts *testscript.TestScript, neg bool, args []string) {
	id, err := events.ParseProgramID(args[0])
	ts.Check(err)
	nc := s.stack.Conn(s.t)
	_, err = nc.Request(events.EventSubject(id, events.Type(args[1])), []byte(args[2]), time.Minute)
	ts.Check(err)
}

// crash ID CODE lets the container of a program end by itself.
func (s *script) crash(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := s.ctx()
	defer cancel()
	containers, err := s.stack.Host.Containers(ctx)
	ts.Check(err)
	code := 0
	_, err = fmt.Sscan(args[1], &code)
	ts.Check(err)
	for _, c := range containers {
		if string(c.ProgramID) == args[0] && s.stack.Host.Crash(c, code) {
			return
		}
	}
	ts.Fatalf("%s has no container that runs", args[0])
}

// ship ID STREAM TEXT stores output of a program.
func (s *script) ship(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := s.ctx()
	defer cancel()
	ts.Check(s.stack.Bus.ShipLog(ctx, events.ProgramID(args[0]), events.LogStream(args[1]), "", []byte(args[2]+"\n")))
}

// settle ID STATE waits until a program is in a state.
func (s *script) settle(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := s.ctx()
	defer cancel()
	c := client.New(s.stack.Conn(s.t))
	last := ""
	for step, err := range c.Watch(ctx, events.ProgramID(args[0]), 0) {
		if err != nil {
			ts.Fatalf("%s is %s, want %s: %v", args[0], last, args[1], err)
		}
		if last = step.To.String(); last == args[1] {
			return
		}
	}
}

// forget ID PROGRAM ARG... removes the checkpoint of a program and runs what is to miss it, and fails. The sweep, which comes every 30 s, may give it
// back in between; then it is done again.
func (s *script) forget(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := s.ctx()
	defer cancel()
	kv := s.checkpoints(ts)
	for range 3 {
		ts.Check(kv.Purge(ctx, events.CheckpointKey(events.ProgramID(args[0]))))
		if ts.Exec(args[1], args[2:]...) != nil {
			return
		}
	}
	ts.Fatalf("%v does not miss the checkpoint", args[1:])
}

// tamper ID FROM TO changes text in the checkpoint of a program.
func (s *script) tamper(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := s.ctx()
	defer cancel()
	kv, key := s.checkpoints(ts), events.CheckpointKey(events.ProgramID(args[0]))
	entry, err := kv.Get(ctx, key)
	ts.Check(err)
	changed := strings.Replace(string(entry.Value()), args[1], args[2], 1)
	if changed == string(entry.Value()) {
		ts.Fatalf("%s holds no %q", entry.Value(), args[1])
	}
	_, err = kv.Put(ctx, key, []byte(changed))
	ts.Check(err)
}

func (s *script) checkpoints(ts *testscript.TestScript) jetstream.KeyValue {
	ctx, cancel := s.ctx()
	defer cancel()
	js, err := jetstream.New(s.stack.Conn(s.t))
	ts.Check(err)
	kv, err := js.KeyValue(ctx, events.BucketPrograms)
	ts.Check(err)
	return kv
}

// cmdWaitFor FILE TEXT waits until a file holds a text.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE TEXT")
	}
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		if f, err := os.Open(ts.MkAbs(args[0])); err == nil {
			found := false
			for lines := bufio.NewScanner(f); lines.Scan(); {
				found = found || strings.Contains(lines.Text(), args[1])
			}
			_ = f.Close()
			if found {
				return
			}
		}
		select {
		case <-deadline.C:
			ts.Fatalf("%s does not hold %q", args[0], args[1])
		case <-poll.C:
		}
	}
}

func programID(t *testing.T, s string) events.ProgramID {
	t.Helper()
	id, err := events.ParseProgramID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func writeFile(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}
