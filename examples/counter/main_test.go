package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// write puts a file into a state folder; a name without content stays absent.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if content == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// files returns what a state folder holds.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(raw)
	}
	return found
}

func openAt(t *testing.T, dir string) *counter {
	t.Helper()
	c, err := open(dir, log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseInterval(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"", time.Second, true},
		{"250ms", 250 * time.Millisecond, true},
		{"0s", 0, false},
		{"-1s", 0, false},
		{"5", 0, false},
		{"soon", 0, false},
	} {
		got, err := parseInterval(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("parseInterval(%q) = %v, %v", tt.in, got, err)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, tt := range []struct {
		name, count string
		want        uint64
		ok          bool
	}{
		{"the first run", "", 0, true},
		{"a later run", "41\n", 41, true},
		{"without a line end", "41", 41, true},
		{"the largest", "18446744073709551615\n", 1<<64 - 1, true},
		{"negative", "-1\n", 0, false},
		{"blank", "\n", 0, false},
		{"not a number", "4x\n", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "count", tt.count)
			c, err := open(dir, log.New(io.Discard, "", 0))
			if (err == nil) != tt.ok {
				t.Fatalf("err = %v", err)
			}
			if err == nil && c.count.Load() != tt.want {
				t.Errorf("count = %d, want %d", c.count.Load(), tt.want)
			}
			if err != nil && files(t, dir)["count"] != tt.count {
				t.Error("the file that could not be read was changed")
			}
		})
	}
}

func TestTick(t *testing.T) {
	for _, tt := range []struct {
		name, crash string
		code        int
		logged      string
	}{
		{"nothing asked for", "", 0, "count 42"},
		{"a crash", "7\n", 7, "count 42"},
		{"the largest exit code", " 255 ", 255, "count 42"},
		{"0 is not a crash", "0", 0, "want an exit code"},
		{"negative", "-1", 0, "want an exit code"},
		{"too large", "256", 0, "want an exit code"},
		{"not a number", "now", 0, "want an exit code"},
		{"blank", "\n", 0, "want an exit code"},
		{"far too long", strings.Repeat("1", 1<<20), 0, "want an exit code"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "count", "41\n")
			write(t, dir, "crash", tt.crash)
			c := openAt(t, dir)
			var out bytes.Buffer
			c.out = log.New(&out, "", 0)
			if got := c.tick(); got != tt.code {
				t.Errorf("tick = %d, want %d", got, tt.code)
			}
			// The request is gone whatever it said, and the temporary file too.
			if got := files(t, dir); len(got) != 1 || got["count"] != "42\n" {
				t.Errorf("left %v, want only the count 42", got)
			}
			if !strings.Contains(out.String(), tt.logged) || out.Len() > 1000 {
				t.Errorf("logged %q, want %q in it", out.String(), tt.logged)
			}
			if got := c.tick(); got != 0 {
				t.Errorf("the next tick = %d, want 0: a crash is granted once", got)
			}
		})
	}
}

// A full or missing disk costs no count: it is saved once that is mended.
func TestTickWithoutFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	c := openAt(t, dir)
	if got := c.tick(); got != 0 {
		t.Fatalf("tick = %d, want 0", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.tick()
	if got := files(t, dir)["count"]; got != "2\n" {
		t.Errorf("count = %q, want 2", got)
	}
}

// A kill between the write and the rename leaves a temporary file; the next run goes on from the count before it.
func TestLeftoverOfAKill(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "count", "5\n")
	write(t, dir, "count.tmp", "6 and a long rest of something")
	openAt(t, dir).tick()
	if got := files(t, dir); len(got) != 1 || got["count"] != "6\n" {
		t.Errorf("left %v, want only the count 6", got)
	}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ticks int
		crash string
		code  int
		count string
	}{
		{"stopped at once", 0, "", 0, "0\n"},
		{"stopped after three", 3, "", 0, "3\n"},
		{"crashed", 1, "3", 3, "1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "crash", tt.crash)
			c := openAt(t, dir)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ticks, code := make(chan time.Time), make(chan int)
			go func() { code <- c.run(ctx, ticks) }()
			for range tt.ticks {
				ticks <- time.Time{}
			}
			if tt.crash == "" {
				cancel()
			}
			if got := <-code; got != tt.code {
				t.Errorf("exit code = %d, want %d", got, tt.code)
			}
			if got := files(t, dir)["count"]; got != tt.count {
				t.Errorf("saved %q, want %q", got, tt.count)
			}
		})
	}
}

// An exit code of 0 promises that the count is on disk.
func TestRunThatCannotSave(t *testing.T) {
	c := openAt(t, filepath.Join(t.TempDir(), "missing"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.run(ctx, nil); got != 1 {
		t.Errorf("exit code = %d, want 1", got)
	}
}

// Requests are answered while it counts; the race detector watches.
func TestServeHTTP(t *testing.T) {
	c := openAt(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ticks, done := make(chan time.Time), make(chan int)
	go func() { done <- c.run(ctx, ticks) }()
	for range 10 {
		ticks <- time.Time{}
		c.ServeHTTP(httptest.NewRecorder(), nil)
	}
	cancel()
	<-done
	answer := httptest.NewRecorder()
	c.ServeHTTP(answer, nil)
	if got := answer.Body.String(); got != "10\n" {
		t.Errorf("answered %q, want 10", got)
	}
}

func TestServeFailsWhereItCannotListen(t *testing.T) {
	out := log.New(io.Discard, "", 0)
	if got := serve(t.Context(), t.TempDir(), "no such address", time.Second, out); got != 1 {
		t.Errorf("exit code = %d, want 1", got)
	}
}
