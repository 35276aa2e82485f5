package chaos

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
)

// host is the containers of one executor, as somebody sees them who does not ask it.
type host interface {
	list() ([]effects.Container, error)
	// kill ends a container and leaves it lying about; wipe removes it too. Neither is told to the executor.
	kill(c effects.Container) error
	wipe(c effects.Container) error
}

// boxes are containers that are processes.
type boxes struct{ store box.Store }

func (b boxes) list() ([]effects.Container, error) {
	list, err := b.store.List()
	var all []effects.Container
	for _, c := range list {
		all = append(all, effects.Container{ID: c.ID, ProgramID: c.ProgramID, Attempt: c.Attempt, Running: c.Running()})
	}
	return all, err
}

func (b boxes) kill(c effects.Container) error {
	status, err := b.store.Find(c.ID)
	if err != nil || !status.Running() {
		return err
	}
	return syscall.Kill(status.Pid, syscall.SIGKILL)
}

func (b boxes) wipe(c effects.Container) error {
	status, err := b.store.Find(c.ID)
	if err != nil {
		return err
	}
	return b.store.Wipe(status)
}

const (
	dockerWait = 30 * time.Second // For one question to Docker.
	removeWait = 5 * time.Minute  // For the removal of all that a run left there.
)

// dockerHost is containers of Docker. All that is made of them carries the label of the run.
type dockerHost struct {
	docker *runtime.DockerManager
	id     events.HostID
	label  string
}

func (d dockerHost) list() ([]effects.Container, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dockerWait)
	defer cancel()
	list, _, err := d.docker.Containers(ctx, d.id)
	var all []effects.Container
	for _, c := range list {
		all = append(all, effects.Container{ID: c.ID, ProgramID: c.ProgramID, Attempt: c.Attempt, Running: c.Running})
	}
	return all, err
}

func (d dockerHost) kill(c effects.Container) error {
	ctx, cancel := context.WithTimeout(context.Background(), dockerWait)
	defer cancel()
	return d.docker.Kill(ctx, c.ID)
}

func (d dockerHost) wipe(c effects.Container) error {
	return command(dockerWait, "docker", "rm", "--force", c.ID)
}

// removeAll removes what the run left on Docker, its images too.
func (d dockerHost) removeAll() error {
	script := `docker ps --all --quiet --filter "label=$1" | xargs -r docker rm --force >/dev/null
docker image ls --quiet --filter "label=$1" | sort -u | xargs -r docker image rm --force >/dev/null`
	if err := command(removeWait, "sh", "-c", script, "sh", d.label); err != nil {
		return errors.Join(fmt.Errorf("remove what is labelled %s: %w", d.label, err), d.docker.Close())
	}
	return d.docker.Close()
}

// command runs something that uses Docker's command line, for some time at most: a daemon that hangs must not hang the run. What the
// command started itself goes with it, since it has a process group of its own.
func command(wait time.Duration, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), errors.Join(ctx.Err(), err), out)
	}
	return nil
}

// addDocker starts the production executor on real Docker, with runc.
func (s *System) addDocker(o Options, binary string) error {
	id := events.HostID(fmt.Sprintf("docker-%d-%d", o.Seed, time.Now().Unix()))
	manager, err := runtime.NewDockerManager()
	if err != nil {
		return err
	}
	h := dockerHost{docker: manager, id: id, label: "hersh.chaos=" + string(id)}
	return s.add(&s.executors, o.Dir, string(id), binary, h, "--http", "", "--host-id", string(id), "--runtime", "runc",
		"--dir", filepath.Join(o.Dir, string(id)), "--label", h.label, "--cpus", "0", "--memory", "0", "--build-slots", "3")
}
