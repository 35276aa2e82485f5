package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logLines is where the service logs to. It tells of each line.
type logLines struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	lines chan map[string]any
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	for {
		line, err := l.buf.ReadBytes('\n')
		if err != nil {
			l.buf.Write(line)
			return len(b), nil
		}
		var record map[string]any
		if json.Unmarshal(line, &record) == nil {
			select {
			case l.lines <- record:
			default: // Nobody waits for so many.
			}
		}
	}
}

func (l *logLines) await(t *testing.T, msg string) map[string]any {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case record := <-l.lines:
			if record["msg"] == msg {
				return record
			}
		case <-deadline:
			t.Fatalf("no line %q was logged", msg)
		}
	}
}

// serve runs the service until stop is called, which returns its error.
func serve(t *testing.T, f flags) (lines *logLines, stop func() error) {
	lines = &logLines{lines: make(chan map[string]any, 10_000)}
	log, err := service.NewLogger(lines, "json", "debug")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- f.serve(ctx, log) }()
	return lines, func() error {
		cancel()
		return <-result
	}
}

func status(t *testing.T, addr, path string) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func TestServes(t *testing.T) {
	srv := natstest.Start(t)
	lines, stop := serve(t, flags{Server: srv.URL(), HTTP: "127.0.0.1:0", Name: "s1", Replicas: 1, HostTTL: time.Minute})
	addr, _ := lines.await(t, "supervisor runs")["http"].(string)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200} {
		if got := status(t, addr, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	answer, err := srv.Conn(t).Request(events.SubjectHostsList, nil, time.Minute)
	if err != nil || !strings.HasPrefix(string(answer.Data), `{"hosts":[`) {
		t.Errorf("list of hosts: %v, %v", answer, err)
	}
	srv.Stop()
	if got := status(t, addr, "/readyz"); got != 503 {
		t.Errorf("/readyz without NATS: %d, want 503", got)
	}
	if got := status(t, addr, "/healthz"); got != 200 {
		t.Errorf("/healthz without NATS: %d, want 200", got)
	}
	srv.Restart(t)
	lines.await(t, "reconnected to NATS")
	if got := status(t, addr, "/readyz"); got != 200 {
		t.Errorf("/readyz after NATS is back: %d, want 200", got)
	}
	if err := stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestWaitsForNATS starts the service before the server.
func TestWaitsForNATS(t *testing.T) {
	srv := natstest.Start(t)
	srv.Stop()
	lines, stop := serve(t, flags{Server: srv.URL(), Name: "s1", Replicas: 1})
	lines.await(t, "NATS does not answer yet")
	srv.Restart(t)
	lines.await(t, "supervisor runs")
	if err := stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestStopsWhileItWaits(t *testing.T) {
	lines, stop := serve(t, flags{Server: "nats://127.0.0.1:1", Name: "s1", Replicas: 1})
	lines.await(t, "NATS does not answer yet")
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestDefaultNamesDiffer(t *testing.T) {
	one, err := defaultName()
	if err != nil {
		t.Fatal(err)
	}
	two, _ := defaultName()
	if one == two || one == "" {
		t.Errorf("default names %q and %q", one, two)
	}
}
