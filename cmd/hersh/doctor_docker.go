package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	docker "github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	tryTimeout  = 2 * time.Minute // Building, starting and removing the smallest container.
	leastAPI    = "1.41"          // Docker 20.10.
	setUpRemedy = "on Debian or Ubuntu, as root: scripts/ensure-docker.sh; elsewhere see https://gvisor.dev/docs/user_guide/install/"
)

// docker checks the Docker Engine of this machine. Where other hosts carry the programs, it need not have one.
func (r *doctor) docker(wanted string) {
	verdict := failed
	if r.hosts > 0 {
		verdict = warning
	}
	m, err := docker.NewDockerManager()
	var info docker.Info
	if err == nil {
		defer func() { _ = m.Close() }() // There is nothing that it could lose.
		ctx, cancel := context.WithTimeout(r.a.ctx, doctorTimeout)
		defer cancel()
		info, err = m.Info(ctx)
	}
	if err != nil {
		r.tell("Docker", verdict, "does not answer on this machine: "+rootCause(err).Error(), "start dockerd, or install it ("+setUpRemedy+"); only machines with an executor need it")
		r.skip("there is no Docker", "runtime", "container")
		return
	}
	if !versionAtLeast(info.APIVersion, leastAPI) {
		r.tell("Docker", verdict, fmt.Sprintf("version %s speaks API %s only", info.ServerVersion, info.APIVersion), "Hersh needs Docker 20.10 (API "+leastAPI+") or later")
	} else {
		r.tell("Docker", fine, fmt.Sprintf("version %s, API %s, builds run under %s", info.ServerVersion, info.APIVersion, info.DefaultRuntime), "")
	}
	if !slices.Contains(info.Runtimes, wanted) {
		r.tell("runtime", verdict, fmt.Sprintf("Docker has no %s, but %s", wanted, strings.Join(info.Runtimes, ", ")), setUpRemedy)
		r.skip("there is no "+wanted, "container")
		return
	}
	r.tell("runtime", fine, wanted+" is registered", "")
	ctx, cancel := context.WithTimeout(r.a.ctx, tryTimeout)
	defer cancel()
	if err := tryContainer(ctx, m, wanted); err != nil {
		r.tell("container", verdict, fmt.Sprintf("one that only ends does not run under %s: %s", wanted, rootCause(err)), setUpRemedy)
		return
	}
	r.tell("container", fine, "one was built, ran under "+wanted+", and was removed", "")
}

// versionAtLeast compares versions like 1.41; what is no version is none.
func versionAtLeast(version, least string) bool {
	parse := func(s string) (major, minor int) {
		a, b, _ := strings.Cut(s, ".")
		major, _ = strconv.Atoi(a)
		minor, _ = strconv.Atoi(b)
		return major, minor
	}
	major, minor := parse(version)
	leastMajor, leastMinor := parse(least)
	return major > leastMajor || major == leastMajor && minor >= leastMinor
}

// tryContainer builds the smallest program there is, runs it in the sandbox, and removes all that came of it.
func tryContainer(ctx context.Context, m *docker.DockerManager, runtimeName string) (err error) {
	dir, err := os.MkdirTemp("", "hersh-doctor-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t, err := newTrial(dir, runtimeName)
	if err != nil {
		return err
	}
	// Also when ctx ends: nothing stays behind.
	defer func() { err = errors.Join(err, t.remove(context.WithoutCancel(ctx), m)) }()
	if err := t.run(ctx, m); err != nil {
		return err
	}
	return nil
}

// trial is a program of a host that nobody else has.
type trial struct {
	id      events.ProgramID
	host    events.HostID
	dir     string
	runtime string
}

func newTrial(dir, runtimeName string) (*trial, error) {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // Never fails.
	name := hex.EncodeToString(random)
	t := &trial{
		id: events.NewProgramID("doctor", events.BuildID("build-"+name[:12])), host: events.HostID("doctor-" + name[:12]),
		dir: dir, runtime: runtimeName,
	}
	program, err := smallestProgram(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	src := filepath.Join(dir, "src")
	return t, errors.Join(
		os.Mkdir(src, 0o700), os.Mkdir(filepath.Join(dir, "state"), 0o700),
		os.WriteFile(filepath.Join(src, "end"), program, 0o755), // #nosec G306 -- It is a program, and no secret.
		os.WriteFile(filepath.Join(src, "Dockerfile"), []byte("FROM scratch\nCOPY end /end\nCMD [\"/end\"]\n"), 0o600),
	)
}

func (t *trial) run(ctx context.Context, m *docker.DockerManager) error {
	built, err := m.Build(ctx, docker.BuildOpts{
		BuildID: t.id.Build(), ContextPath: filepath.Join(t.dir, "src"), Timeout: tryTimeout,
		Labels: map[string]string{compose.LabelProgram: string(t.id), compose.LabelHost: string(t.host)},
	})
	if err != nil {
		return err
	}
	spec, err := compose.NewBuilder().GenerateSpec(compose.BuildOpts{
		ProgramID: t.id, HostID: t.host, Attempt: 1, ImageID: built.ImageID, StatePath: filepath.Join(t.dir, "state"), Runtime: t.runtime,
	})
	if err != nil {
		return err
	}
	started, err := m.Start(ctx, docker.StartOpts{ProgramID: t.id, Spec: spec})
	if err != nil {
		return err
	}
	return t.awaitEnd(ctx, m, started.ContainerID)
}

// awaitEnd asks now and then, as often as the time of a trial allows.
func (t *trial) awaitEnd(ctx context.Context, m *docker.DockerManager, containerID string) error {
	for {
		c, err := m.Inspect(ctx, containerID)
		switch {
		case err != nil:
			return err
		case !c.Running && c.ExitCode != 0:
			return fmt.Errorf("it ended with code %d", c.ExitCode)
		case !c.Running && !c.Created:
			return nil
		}
		if !pause.For(ctx, 100*time.Millisecond) {
			return errors.New("it did not end")
		}
	}
}

func (t *trial) remove(ctx context.Context, m *docker.DockerManager) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	left, _, err := m.Containers(ctx, t.host)
	for _, c := range left {
		err = errors.Join(err, m.Stop(ctx, c.ID))
	}
	_, imagesErr := m.RemoveImages(ctx, t.id, t.host, "")
	return errors.Join(err, imagesErr)
}

// smallestProgram is a static Linux program that ends with code 0: an ELF header, one segment, and the system call exit. So there is
// nothing to compile or to pull.
func smallestProgram(arch string) ([]byte, error) {
	var machine uint16
	var code []byte
	switch arch {
	case "amd64":
		machine = 62
		code = []byte{0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05} // xor edi, edi; mov eax, 60; syscall
	case "arm64":
		machine = 183
		code = []byte{0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4} // mov x0, #0; mov x8, #93; svc #0
	default:
		return nil, fmt.Errorf("there is no test program for %s", arch)
	}
	const base, fileHeader, programHeader = 0x400000, 64, 56
	size := uint64(fileHeader + programHeader + len(code))
	le := binary.LittleEndian
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...) // 64 bits, little endian, version 1.
	elf = le.AppendUint16(elf, 2)                                    // An executable.
	elf = le.AppendUint16(elf, machine)
	elf = le.AppendUint32(elf, 1)
	elf = le.AppendUint64(elf, base+fileHeader+programHeader) // Where it begins to run.
	elf = le.AppendUint64(elf, fileHeader)                    // Where the program header is.
	elf = le.AppendUint64(elf, 0)                             // No section headers.
	elf = le.AppendUint32(elf, 0)
	for _, n := range []uint16{fileHeader, programHeader, 1, 64, 0, 0} { // Sizes and counts of headers.
		elf = le.AppendUint16(elf, n)
	}
	elf = le.AppendUint32(elf, 1) // A segment to load,
	elf = le.AppendUint32(elf, 5) // to read and to run,
	for _, n := range []uint64{0, base, base, size, size, 0x1000} {
		elf = le.AppendUint64(elf, n)
	}
	return append(elf, code...), nil
}
