// Package box has containers without Docker, for chaos tests: a folder of files for each, and a process that holds a lock on one of
// them. Nothing is in memory, so that they outlive whoever started them and are found again, as containers are.
//
//	<dir>/<program>.<attempt>/meta.json   labels and what the container does
//	                          lock        locked as long as the container runs
//	                          started     there once it has run
//	                          exit        its exit code, where it could say so
package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	pollEvery   = 5 * time.Millisecond
	startWait   = 10 * time.Second // How long a process may take to lock.
	termWait    = time.Second      // Between asking a container to end and killing it.
	killWait    = 10 * time.Second // How long the kernel may take to end a process.
	killedCode  = 137              // As of a process that could not say anything any more.
	tmpPrefix   = ".tmp-"
	fileMeta    = "meta.json"
	fileLock    = "lock"
	fileStarted = "started"
	fileExit    = "exit"
)

// Script is what a container does.
type Script struct {
	ExitAfter  time.Duration `json:"exitAfter,omitempty"` // 0 is never.
	ExitCode   int           `json:"exitCode,omitempty"`
	IgnoreTerm bool          `json:"ignoreTerm,omitempty"` // It must be killed.
}

// Meta is what is written about a container before it starts.
type Meta struct {
	ID        string           `json:"id"`
	ProgramID events.ProgramID `json:"programId"`
	Attempt   uint64           `json:"attempt"`
	Script    Script           `json:"script"`
}

// Status is a container as it is now.
type Status struct {
	Meta
	Pid      int  // Of its process; 0 when it does not run.
	Started  bool // It runs or has run.
	ExitCode int  // Meaningful when it was started and does not run.
}

// Running reports whether the container's process lives.
func (s Status) Running() bool { return s.Pid != 0 }

// ErrNone says that there is no such container.
var ErrNone = errors.New("no such container")

// Store is the containers of one host.
type Store struct {
	Dir    string
	Binary string // The container's program: package main in ../container.
}

// List returns all containers.
func (s Store) List() ([]Status, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Status
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), tmpPrefix) {
			continue
		}
		status, err := s.read(entry.Name())
		if errors.Is(err, ErrNone) {
			continue // It was removed meanwhile.
		}
		if err != nil {
			return nil, err
		}
		list = append(list, status)
	}
	return list, nil
}

// Find returns the container of an ID, or ErrNone.
func (s Store) Find(id string) (Status, error) {
	name := id[:max(strings.LastIndexByte(id, '.'), 0)]
	if name == "" || strings.ContainsRune(name, filepath.Separator) {
		return Status{}, ErrNone
	}
	status, err := s.read(name)
	if err == nil && status.ID != id {
		return Status{}, ErrNone
	}
	return status, err
}

// Get returns the container of an attempt, or ErrNone.
func (s Store) Get(id events.ProgramID, attempt uint64) (Status, error) {
	return s.read(name(id, attempt))
}

func name(id events.ProgramID, attempt uint64) string { return fmt.Sprintf("%s.%d", id, attempt) }

func (s Store) read(name string) (Status, error) {
	dir := filepath.Join(s.Dir, name)
	data, err := os.ReadFile(filepath.Join(dir, fileMeta))
	if errors.Is(err, fs.ErrNotExist) {
		return Status{}, ErrNone
	}
	if err != nil {
		return Status{}, err
	}
	status := Status{ExitCode: killedCode}
	if err := json.Unmarshal(data, &status.Meta); err != nil {
		return Status{}, fmt.Errorf("read container %s: %w", name, err)
	}
	if status.Pid, err = holder(filepath.Join(dir, fileLock)); err != nil {
		return Status{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, fileStarted)); err == nil {
		status.Started = true
	}
	if data, err := os.ReadFile(filepath.Join(dir, fileExit)); err == nil {
		status.ExitCode, _ = strconv.Atoi(string(data)) // Written at once, by rename.
	}
	return status, nil
}

// holder returns the process that has the lock, 0 for none, without taking it.
func holder(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, ErrNone
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return 0, err
	}
	if lock.Type == syscall.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// Create makes the container of an attempt, which does not run yet. One that is there already stays.
func (s Store) Create(id events.ProgramID, attempt uint64, script Script) error {
	meta := Meta{ID: fmt.Sprintf("%s.%08x", name(id, attempt), rand.Uint32()), ProgramID: id, Attempt: attempt, Script: script}
	data, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(s.Dir, tmpPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, fileLock), nil, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, fileMeta), data, 0o644); err != nil {
		return err
	}
	err = os.Rename(tmp, filepath.Join(s.Dir, name(id, attempt)))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	return err
}

// Start starts the container of an attempt, unless it was started before, and waits until it runs or has run.
func (s Store) Start(ctx context.Context, id events.ProgramID, attempt uint64) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	launched := false
	for {
		status, err := s.Get(id, attempt)
		if err != nil || status.Started {
			return status, err
		}
		if !launched && !status.Running() {
			if err := s.launch(filepath.Join(s.Dir, name(id, attempt))); err != nil {
				return status, err
			}
			launched = true
		}
		if !pause.For(ctx, pollEvery) {
			return status, fmt.Errorf("start container %s: %w", status.ID, ctx.Err())
		}
	}
}

// launch starts the process of a container. Of two for the same container only one gets the lock.
func (s Store) launch(dir string) error {
	cmd := exec.Command(s.Binary, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // It outlives whoever starts it.
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // Nothing is left of it in the process table; its exit code is in its folder.
	return nil
}

// Remove ends a container and removes it. One that is not there is fine.
func (s Store) Remove(ctx context.Context, id string) error {
	status, err := s.Find(id)
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.end(ctx, status); err != nil {
		return err
	}
	return s.Wipe(status)
}

func (s Store) end(ctx context.Context, status Status) error {
	for _, step := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGTERM, termWait}, {syscall.SIGKILL, killWait}} {
		deadline := time.Now().Add(step.wait)
		for time.Now().Before(deadline) {
			now, err := s.Find(status.ID)
			if errors.Is(err, ErrNone) || err == nil && !now.Running() {
				return nil
			}
			if err != nil {
				return err
			}
			_ = syscall.Kill(now.Pid, step.sig) // It may have ended just now.
			if !pause.For(ctx, pollEvery) {
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("container %s does not end", status.ID)
}

// Wipe removes a container as it is, and kills its process, as somebody does by hand.
func (s Store) Wipe(status Status) error {
	if status.Running() {
		_ = syscall.Kill(status.Pid, syscall.SIGKILL) // It may have ended just now.
	}
	// It vanishes at once: what is half removed must not be listed.
	trash := filepath.Join(s.Dir, tmpPrefix+status.ID)
	if err := os.Rename(filepath.Join(s.Dir, name(status.ProgramID, status.Attempt)), trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(trash)
}
