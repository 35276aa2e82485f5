package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// built holds the paths of commands that were built for the tests, in a folder that TestMain removes.
type built struct {
	dir string
	mu  sync.Mutex
	ok  map[string]string
}

// command builds a package of the module, or of one that it depends on, as a static binary, once.
func (b *built) command(t *testing.T, pkg string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if path, found := b.ok[pkg]; found {
		return path
	}
	name := filepath.Base(strings.TrimSuffix(pkg, "/v2"))
	path := filepath.Join(b.dir, name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	b.ok[pkg] = path
	return path
}

// process is a service of its own process, which can be killed.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // What it logs; closed at its end.
	done  chan struct{}
}

// start runs a command until the end of the test.
func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, args...), lines: make(chan string, 10_000), done: make(chan struct{})}
	out, in := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = in, in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		var reading sync.WaitGroup
		reading.Go(func() { p.read(out) })
		_ = p.cmd.Wait() // It is killed as often as not.
		in.Close()
		reading.Wait()
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		fmt.Fprintf(p.t.Output(), "%s[%d] %s\n", filepath.Base(p.cmd.Path), p.cmd.Process.Pid, scanner.Text())
		select {
		case p.lines <- scanner.Text():
		default: // Nobody waits for it; the output of the test has it.
		}
	}
}

// await waits until the process has logged a line with all the words.
func (p *process) await(words ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			p.t.Fatalf("%s did not log %q", filepath.Base(p.cmd.Path), words)
		case line, open := <-p.lines:
			if !open {
				p.t.Fatalf("%s ended before it logged %q", filepath.Base(p.cmd.Path), words)
			}
			if hasAll(line, words) {
				return
			}
		}
	}
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // It may be gone already.
	<-p.done
}

// terminate asks the process to end, waits until it has, and returns its exit code.
func (p *process) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

func hasAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}
