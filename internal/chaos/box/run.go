package box

import (
	"encoding/json"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	lookEvery = 2 * time.Second // How often a container looks whether it is still there.
	maxLife   = 2 * time.Hour   // So that nothing is left for ever, whatever happens to its tests.
)

// Run is the process of the container in a folder. It returns the exit code.
func Run(dir string) int {
	lock, err := os.OpenFile(filepath.Join(dir, fileLock), os.O_RDWR, 0)
	if err != nil {
		return 1
	}
	defer lock.Close()
	whole := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if syscall.FcntlFlock(lock.Fd(), syscall.F_SETLK, &whole) != nil || !there(lock) {
		return 1 // Another runs for this container, or it was removed before it began.
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	var meta Meta
	data, err := os.ReadFile(filepath.Join(dir, fileMeta))
	if err != nil || json.Unmarshal(data, &meta) != nil {
		return 1
	}
	if os.WriteFile(filepath.Join(dir, fileStarted), nil, 0o644) != nil {
		return 1
	}
	code := wait(lock, meta.Script, terms)
	tmp := filepath.Join(dir, fileExit+".tmp")
	if os.WriteFile(tmp, []byte(strconv.Itoa(code)), 0o644) == nil {
		_ = os.Rename(tmp, filepath.Join(dir, fileExit)) // Without it the code counts as that of a kill.
	}
	return code
}

func wait(lock *os.File, script Script, terms <-chan os.Signal) int {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	exit := time.NewTimer(maxLife)
	defer exit.Stop()
	if script.ExitAfter > 0 {
		exit.Reset(script.ExitAfter)
	}
	for {
		select {
		case <-exit.C:
			return script.ExitCode
		case <-terms:
			if !script.IgnoreTerm {
				return 0
			}
		case <-look.C:
			if !there(lock) {
				return killedCode
			}
		}
	}
}

// there reports whether the folder still has the file that is open.
func there(lock *os.File) bool {
	opened, err := lock.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(lock.Name())
	return err == nil && os.SameFile(opened, now)
}
