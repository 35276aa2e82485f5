package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func logger(t *testing.T, w io.Writer) func(format, level string) {
	return func(format, level string) {
		t.Helper()
		log, err := service.NewLogger(w, format, level)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello", "n", 1)
		log.Debug("not this")
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	logger(t, &out)("json", "info")
	var line struct {
		Msg string `json:"msg"`
		N   int    `json:"n"`
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != "hello" || line.N != 1 {
		t.Errorf("JSON log: %q, %v", out.String(), err)
	}
	out.Reset()
	logger(t, &out)("text", "warn")
	if out.Len() > 0 {
		t.Errorf("logged below the level: %q", out.String())
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"text", "loud"}, {"", ""}} {
		if _, err := service.NewLogger(&out, bad[0], bad[1]); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestVersionIsSemantic(t *testing.T) {
	// What NATS micro services accept.
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`).MatchString(service.Version()) {
		t.Errorf("version %q", service.Version())
	}
}

func get(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func startMonitor(t *testing.T, checks ...service.Check) *service.Monitor {
	t.Helper()
	log, err := service.NewLogger(t.Output(), "text", "debug")
	if err != nil {
		t.Fatal(err)
	}
	m, err := service.StartMonitor("127.0.0.1:0", service.NewRegistry(), log, checks...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	return m
}

func TestMonitor(t *testing.T) {
	broken := errors.New("secret detail")
	var gate service.Gate
	m := startMonitor(t, gate.Check("it works"))
	if code, body := get(t, m.Addr(), "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := get(t, m.Addr(), "/readyz"); code != 503 || body != "not ready: it works\n" {
		t.Errorf("readyz before the start: %d %q", code, body)
	}
	var err error
	gate.Open(service.Check{Name: "inner", Ready: func(context.Context) error { return err }})
	if code, body := get(t, m.Addr(), "/readyz"); code != 200 || body != "ready\n" {
		t.Errorf("readyz: %d %q", code, body)
	}
	err = broken
	if code, body := get(t, m.Addr(), "/readyz"); code != 503 || strings.Contains(body, "secret") {
		t.Errorf("readyz while broken: %d %q", code, body)
	}
	if code, body := get(t, m.Addr(), "/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") || !strings.Contains(body, "process_open_fds") {
		t.Errorf("metrics: %d %.100q", code, body)
	}
	if code, _ := get(t, m.Addr(), "/debug/pprof/"); code != 404 {
		t.Errorf("something else: %d, want 404", code)
	}
}

// TestMonitorBoundsHeaders sends more headers than a scraper would; the server does not read them all.
func TestMonitorBoundsHeaders(t *testing.T) {
	m := startMonitor(t)
	conn, err := net.Dial("tcp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 1<<20)) // It may close on us.
	answer, _ := io.ReadAll(conn)
	if len(answer) > 0 && !bytes.Contains(answer, []byte("431")) {
		t.Errorf("answer %.100q, want 431 or none", answer)
	}
}

// TestMonitorEndsSlowRequests sends requests that never end, a byte at a time or nothing at all. The server ends each of them, and
// answers others meanwhile.
func TestMonitorEndsSlowRequests(t *testing.T) {
	m := startMonitor(t)
	var group sync.WaitGroup
	for _, beginning := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\n", "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"} {
		conn, err := net.Dial("tcp", m.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		drip := time.NewTicker(100 * time.Millisecond)
		defer drip.Stop()
		ended := make(chan struct{})
		group.Go(func() {
			_, _ = io.WriteString(conn, beginning)
			for {
				select {
				case <-ended:
					return
				case <-drip.C:
					if _, err := io.WriteString(conn, "x"); err != nil {
						return
					}
				}
			}
		})
		group.Go(func() {
			defer close(ended)
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a request that begins with %q and never ends is waited for", beginning)
			}
		})
	}
	if code, _ := get(t, m.Addr(), "/healthz"); code != 200 {
		t.Errorf("healthz beside slow requests: %d", code)
	}
	group.Wait() // Until the server has ended each.
}

func TestMonitorOff(t *testing.T) {
	m, err := service.StartMonitor("", nil, nil)
	if err != nil || m.Addr() != "" {
		t.Errorf("monitor that is off: %q, %v", m.Addr(), err)
	}
	m.Stop()
}

func TestMonitorAddressInUse(t *testing.T) {
	m := startMonitor(t)
	if _, err := service.StartMonitor(m.Addr(), service.NewRegistry(), nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second monitor on one address: %v", err)
	}
}

func TestRetry(t *testing.T) {
	tries, heard := 0, 0
	err := service.Retry(t.Context(), func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	}, func(error, time.Duration) { heard++ })
	if err != nil || tries != 3 || heard != 2 {
		t.Errorf("retry: %v after %d tries, %d failures heard", err, tries, heard)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = service.Retry(ctx, func(context.Context) error { return errors.New("never") }, func(error, time.Duration) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("retry after the end of its context: %v", err)
	}
}

func TestUntilSignal(t *testing.T) {
	log, err := service.NewLogger(t.Output(), "text", "info")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := service.UntilSignal(t.Context(), log)
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("SIGTERM did not end the context")
	}
}
