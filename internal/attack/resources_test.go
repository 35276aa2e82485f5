package attack_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

const (
	memoryLimit = 64 << 20
	killed      = 128 + 9 // Exit code of what SIGKILL ended.
)

// TestTakingHurtsOnlyTheTaker lets the hostile program take what there is, in each way, beside a neighbour.
func TestTakingHurtsOnlyTheTaker(t *testing.T) {
	runtimes(t, func(t *testing.T, name string) {
		s := newStage(t, name, "")
		image := s.image()
		beside := s.startNeighbour(image)
		for what, try := range map[string]func(*testing.T, *stage, string){
			"memory": takesMemory, "memory files": takesMemoryFiles, "processes": takesProcesses, "threads": takesThreads,
			"open files": takesFiles, "log": fillsLog, "deaf": isDeaf, "daemon": daemonises, "setuid": leavesSetuid,
		} {
			t.Run(what, func(t *testing.T) {
				here := *s
				here.t = t
				try(t, &here, image)
				beside.checkAlive()
			})
		}
	})
}

func takesMemory(t *testing.T, s *stage, image string) {
	p := s.start(image, orders{Mode: "memory"}, events.Limits{MemoryBytes: memoryLimit})
	if exited := p.exit(); !exited.OOMKilled && exited.ExitCode != killed {
		t.Errorf("it ended as %+v", exited)
	}
	p.stop()
}

// takesMemoryFiles checks that the file systems in memory are no way around the memory limit.
func takesMemoryFiles(t *testing.T, s *stage, image string) {
	p := s.start(image, orders{Mode: "shm", Amount: 4 * memoryLimit}, events.Limits{MemoryBytes: memoryLimit})
	exited := p.exit()
	list, _ := p.reports()
	t.Logf("%+v, it said %+v", exited, list)
	for _, r := range list {
		if r.Count > memoryLimit {
			t.Errorf("it wrote %d bytes into memory, with a limit of %d", r.Count, memoryLimit)
		}
	}
	// Docker 20.10 forgets to say OOMKilled when it hears of the kill after the exit; nobody else kills here.
	if len(list) == 0 && !exited.OOMKilled && exited.ExitCode != killed {
		t.Errorf("it neither said what it wrote, nor ran out of memory: %+v", exited)
	}
	p.stop()
}

const (
	pidLimit   = 160 // gVisor's sandbox needs some dozens for itself.
	tasksTried = 500 // So many more than the limit that it must strike, except under gVisor.
)

func takesProcesses(t *testing.T, s *stage, image string) {
	takesTasks(t, s.start(image, orders{Mode: "processes", Amount: tasksTried}, events.Limits{Pids: pidLimit, MemoryBytes: 1 << 30}))
}

func takesThreads(t *testing.T, s *stage, image string) {
	takesTasks(t, s.start(image, orders{Mode: "threads", Amount: tasksTried}, events.Limits{Pids: pidLimit, MemoryBytes: 1 << 30}))
}

// takesTasks checks that a program which makes processes or threads ends by the limit, or dies of it. Under gVisor the limit is
// one of the sandbox's own threads, of which some processes share one.
func takesTasks(t *testing.T, p *inmate) {
	t.Helper()
	most := 0
	dockertest.WaitFor(t, "the end of its tries", func() bool {
		most = max(most, p.tasks())
		list, rest := p.reports()
		// What it said is kept a moment after its end.
		return len(list) > 0 && (list[len(list)-1].Kind == "done" || !p.running()) || rest != ""
	})
	list, rest := p.reports()
	made := int64(0)
	for _, r := range list {
		made = max(made, r.Count)
	}
	t.Logf("it made %d; the host saw at most %d tasks of it; still running: %t; %.80q", made, most, p.running(), rest)
	if most > pidLimit {
		t.Errorf("the host saw %d tasks, with a limit of %d", most, pidLimit)
	}
	if p.runtime == compose.RuntimeRunc && made > pidLimit {
		t.Errorf("it made %d, with a limit of %d", made, pidLimit)
	}
	if made == 0 {
		t.Error("it made none: the check is worth nothing")
	}
	p.stop()
}

func (p *inmate) running() bool {
	var full struct{ State struct{ Running bool } }
	p.docker.Get("/containers/"+p.container+"/json", &full)
	return full.State.Running
}

// tasks counts the threads on the host that belong to the container.
func (p *inmate) tasks() (count int) {
	for _, pid := range p.pids() {
		list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		count += len(list)
	}
	return count
}

func takesFiles(t *testing.T, s *stage, image string) {
	p := s.start(image, orders{Mode: "files", Amount: 200_000}, events.Limits{})
	list := p.await("files")
	if count := list[0].Count; count == 0 || count > compose.DefaultOpenFiles {
		t.Errorf("it opened %d files (%s)", count, list[0].Detail)
	}
	t.Logf("it opened %d files: %s", list[0].Count, list[0].Detail)
	p.exit()
	p.stop()
}

// fillsLog checks that what a program prints takes a bounded part of the disk, with Docker and with Hersh.
func fillsLog(t *testing.T, s *stage, image string) {
	const much, kept, slack = 48 << 20, 30 << 20, 2 << 20
	p := s.start(image, orders{Mode: "log", Amount: much}, events.Limits{})
	p.exit()
	var full struct{ LogPath string }
	p.docker.Get("/containers/"+p.container+"/json", &full)
	if size := sizeOf(t, full.LogPath+"*"); size == 0 || size > kept+slack {
		t.Errorf("Docker keeps %d bytes of the output", size)
	}
	p.stop()
	size := sizeOf(t, p.logPath()+"*")
	t.Logf("of %d bytes Hersh keeps %d", much, size)
	if size == 0 || size > 20<<20+slack {
		t.Errorf("Hersh keeps %d bytes of the output", size)
	}
}

func sizeOf(t *testing.T, pattern string) (total int64) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			total += info.Size()
		}
	}
	return total
}

func isDeaf(t *testing.T, s *stage, image string) {
	p := s.start(image, orders{Mode: "deaf"}, events.Limits{CPUMillis: 300})
	p.await("deaf")
	p.stop()
}

// daemonises checks that nothing outlives its container.
func daemonises(t *testing.T, s *stage, image string) {
	p := s.start(image, orders{Mode: "daemon"}, events.Limits{})
	if exited := p.exit(); exited.ExitCode != 0 {
		t.Errorf("it ended as %+v", exited)
	}
	if (neighbour{p}).beat() < 0 {
		t.Error("the daemon never lived: the check is worth nothing")
	}
	if left := p.pids(); len(left) > 0 {
		t.Errorf("processes %v outlived their container", left)
	}
	p.stop()
}

// TestStateLimit checks that a program whose /state has outgrown its limit is not started again, and one below it is.
func TestStateLimit(t *testing.T) {
	s := newStage(t, compose.RuntimeRunc, "", host.WithStateLimit(8<<20))
	image := s.image()
	for amount, want := range map[int64]string{4 << 20: "RuntimeStarted", 16 << 20: "/state takes 16 MiB of the disk, more than the 8 MiB"} {
		p := s.start(image, orders{Mode: "disk", Amount: amount}, events.Limits{})
		p.await("disk")
		p.stop()
		if again := fmt.Sprintf("%#v", p.startAgain()); !strings.Contains(again, want) {
			t.Errorf("after %d bytes the start ends with %s", amount, again)
		}
	}
}

// TestStateLimitOfOneThatRuns checks that a program which outgrows its /state while it runs is ended, with the reason, and that its
// neighbour, which does not, is not.
func TestStateLimitOfOneThatRuns(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := newStage(t, runtime, "", host.WithStateLimit(8<<20))
		image := s.image()
		beside := s.startNeighbour(image)
		p := s.start(image, orders{Mode: "hoard", Amount: 16 << 20}, events.Limits{})
		p.await("hoard")
		if result := s.handler.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: p.container}); result != nil {
			t.Fatalf("it ended before it was measured: %#v", result)
		}
		if err := s.handler.EnforceStateLimit(t.Context()); err != nil {
			t.Fatal(err)
		}
		exited := p.exit()
		if exited.ExitCode != 137 || !strings.Contains(exited.Reason, "/state takes 16 MiB of the disk, more than the 8 MiB") {
			t.Errorf("it ended as %+v", exited)
		}
		if err := s.handler.EnforceStateLimit(t.Context()); err != nil { // The dead are left alone.
			t.Error(err)
		}
		beside.checkAlive()
		p.stop()
		beside.stop()
	})
}

// TestNotEndedByTheHost checks that only the note about a container says why it was killed, and none about another.
func TestNotEndedByTheHost(t *testing.T) {
	s := newStage(t, compose.RuntimeRunc, "", host.WithStateLimit(8<<20))
	p := s.start(s.image(), orders{Mode: "memory"}, events.Limits{MemoryBytes: memoryLimit})
	if exited := p.exit(); exited.ExitCode != killed || exited.Reason != "" {
		t.Errorf("without a note it ended as %+v", exited)
	}
	note := filepath.Join(s.storage.GetRuntimePath(p.id), "ended.json")
	for container, reason := range map[string]string{"another": "", p.container: "noted"} {
		s.write(note, fmt.Sprintf(`{"containerId": %q, "reason": "noted"}`, container), 0o600)
		if exited := p.exit(); exited.Reason != reason {
			t.Errorf("with a note on %q it ended as %+v", container, exited)
		}
	}
	p.stop()
}

// leavesSetuid checks that what a program leaves in /state cannot be reached by the other users of the host, so that a setuid
// program of root's there is of no use to them.
func leavesSetuid(t *testing.T, s *stage, image string) {
	p := s.start(image, orders{Mode: "setuid"}, events.Limits{})
	t.Logf("%+v", p.await("setuid")[0])
	if os.Geteuid() == 0 {
		for dir := filepath.Dir(s.base); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		asNobody := func(path string) (string, error) {
			cmd := exec.Command("ls", "-d", path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		if out, err := asNobody(filepath.Dir(s.base)); err != nil {
			t.Fatalf("the check is worth nothing: %s, %v", out, err)
		}
		for _, path := range []string{p.state(), filepath.Join(p.state(), "rootshell")} {
			if out, err := asNobody(path); err == nil || !strings.Contains(out, "Permission denied") {
				t.Errorf("another user of the host reaches it: %s, %v", out, err)
			}
		}
	}
	p.stop()
}
