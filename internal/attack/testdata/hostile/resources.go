package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// takeMemory takes and touches memory until it is stopped.
func takeMemory() {
	const step = 4 << 20
	var all [][]byte
	for {
		block := make([]byte, step)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
		runtime.KeepAlive(all)
	}
}

// fill writes a file until there is no more room.
func fill(path string, most int64) {
	f, err := os.Create(path)
	if err != nil {
		say(report{Kind: "count", Attempt: path, Detail: err.Error()})
		return
	}
	defer f.Close()
	block := bytes.Repeat([]byte{1}, 1<<20)
	written := int64(0)
	for written < most {
		n, err := f.Write(block)
		written += int64(n)
		if err != nil {
			say(report{Kind: "count", Attempt: path, Count: written, Detail: err.Error()})
			return
		}
	}
	say(report{Kind: "count", Attempt: path, Count: written, Detail: "as much as it wanted"})
}

// takeFiles opens files until no more are to be had.
func takeFiles(most int64) {
	var open []*os.File
	reason := "as many as it wanted"
	for int64(len(open)) < most {
		f, err := os.Open("/dev/null")
		if err != nil {
			reason = err.Error()
			break
		}
		open = append(open, f)
	}
	count := int64(len(open))
	for _, f := range open { // Room for what is said now.
		_ = f.Close()
	}
	say(report{Kind: "count", Attempt: "open files", Count: count, Detail: reason})
}

// fillLog prints bytes in long lines to both outputs.
func fillLog(most int64) {
	line := append(bytes.Repeat([]byte("x"), 1023), '\n')
	block := bytes.Repeat(line, 64)
	for written := int64(0); written < most; {
		for _, out := range []*os.File{os.Stdout, os.Stderr} {
			n, _ := out.Write(block)
			written += int64(n)
		}
	}
}

// ignoreSignals ignores all that can be ignored, and works hard for ever.
func ignoreSignals() {
	signal.Ignore()
	for i := 1; i < 65; i++ {
		signal.Ignore(syscall.Signal(i))
	}
	done("deaf")
	for spin := 0; ; spin++ {
		if spin < 0 { // For ever, near enough; an empty loop is what vet takes for a mistake.
			spin = 0
		}
	}
}

// daemonise starts a process in a session of its own, whose parent dies, and ends.
func daemonise() {
	cmd := exec.Command("/proc/self/exe", "stay")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		say(report{Kind: "daemon", Attempt: "start", Detail: err.Error()})
	}
	for {
		if _, err := os.Stat("/state/stays"); err == nil {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	done("daemon")
}

// stay leaves a sign of life again and again, deaf to all signals.
func stay() {
	signal.Ignore()
	for beat := 0; ; beat++ {
		_ = os.WriteFile("/state/stays.new", []byte(fmt.Sprint(beat)), 0o644)
		_ = os.Rename("/state/stays.new", "/state/stays")
		time.Sleep(2 * time.Millisecond)
	}
}
