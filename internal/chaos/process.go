package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const module = "github.com/rlaaudgjs5638/hersh"

// Build builds a package of this module, or of one that it depends on, as a static binary in a folder, and returns its path.
func Build(ctx context.Context, dir, pkg string) (string, error) {
	path := filepath.Join(dir, strings.NewReplacer("/", "-", module+"/", "").Replace(strings.TrimSuffix(pkg, "/v2")))
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// Process is a program that is started and killed again and again. It is safe for concurrent use.
type Process struct {
	Name string
	Path string
	Args []string
	Log  string // File that its output is appended to.
	Died func(error)

	mu   sync.Mutex
	cmd  *exec.Cmd // nil while it does not run.
	done chan struct{}
}

// Start starts the process, unless it runs.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		defer close(done)
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cmd == cmd && p.Died != nil { // Nobody killed it.
			p.cmd = nil
			p.Died(fmt.Errorf("%s ended by itself: %v; its log, %s, ends with\n%s", p.Name, err, p.Log, end(p.Log)))
		}
	}()
	return nil
}

// end is what a file ends with, for whoever will not find it any more.
func end(path string) []byte {
	const enough = 1000
	data, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return data[max(len(data)-enough, 0):]
}

// Kill ends the process as kill -9 does, frozen or not, and waits until it is gone.
func (p *Process) Kill() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd = nil
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill() // It may be gone already.
		<-done
	}
}

// Freeze stops the process where it is, until Thaw.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig) // It may be gone already.
	}
}
