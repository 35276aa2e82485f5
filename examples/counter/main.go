// Command counter is a program to deploy: it counts once a second, keeps its count in /state, where it survives every
// restart, and serves it over HTTP. Writing a number to /state/crash makes it exit with that code, to see what Hersh
// makes of a crash.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	interval, err := parseInterval(os.Getenv("COUNTER_INTERVAL"))
	if err != nil {
		log.SetFlags(0)
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(serve(ctx, "/state", ":8080", interval, log.New(os.Stdout, "", 0)))
}

// parseInterval reads the time between two counts; nothing means a second.
func parseInterval(s string) (time.Duration, error) {
	if s == "" {
		return time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("COUNTER_INTERVAL is %q, want a positive duration such as 1s or 250ms", s)
	}
	return d, nil
}

// serve counts and answers requests until the context ends or a crash is asked for, and returns the exit code.
func serve(ctx context.Context, dir, addr string, interval time.Duration, out *log.Logger) int {
	c, err := open(dir, out)
	if err != nil {
		out.Print(err)
		return 1
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		out.Print(err)
		return 1
	}
	server := &http.Server{Handler: c, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	defer server.Close()

	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	return c.run(ctx, ticker.C)
}

// counter is a count and the folder that keeps it.
type counter struct {
	dir   string
	out   *log.Logger
	count atomic.Uint64 // written by run, read by requests
}

// open continues where the last run ended. A count that is not a number is refused: starting again at zero would
// overwrite what somebody may still want to repair.
func open(dir string, out *log.Logger) (*counter, error) {
	c := &counter{dir: dir, out: out}
	raw, err := os.ReadFile(c.file("count"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out.Print("starting at 0")
		return c, nil
	case err != nil:
		return nil, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(raw)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s does not hold a count: %w", c.file("count"), err)
	}
	c.count.Store(n)
	out.Printf("continuing at %d", n)
	return c, nil
}

func (c *counter) file(name string) string { return filepath.Join(c.dir, name) }

// run counts at every tick, until the context ends (0, or 1 if the count could not be saved) or a crash is asked for.
func (c *counter) run(ctx context.Context, ticks <-chan time.Time) int {
	for {
		select {
		case <-ctx.Done():
			if err := c.save(); err != nil {
				c.out.Print(err)
				return 1
			}
			c.out.Printf("stopped at %d", c.count.Load())
			return 0
		case <-ticks:
			if code := c.tick(); code != 0 {
				c.out.Printf("crashing with exit code %d, as asked", code)
				return code
			}
		}
	}
}

// tick counts one further and returns the exit code of a crash, or 0 to go on. What fails now is tried again at the
// next tick, and no count is lost by that: it is in memory until then.
func (c *counter) tick() int {
	n := c.count.Add(1)
	if err := c.save(); err != nil {
		c.out.Print(err)
	} else {
		c.out.Printf("count %d", n)
	}
	code, err := c.takeCrash()
	if err != nil {
		c.out.Print(err)
	}
	return code
}

// save replaces the file in one step, and syncs the file and its folder: after a power failure it holds this count or
// the one before, never half of one.
func (c *counter) save() error {
	tmp, err := os.Create(c.file("count.tmp"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(tmp, c.count.Load())
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), c.file("count")); err != nil {
		return err
	}
	return c.syncDir()
}

func (c *counter) syncDir() error {
	dir, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// takeCrash removes the request for a crash before it is granted, for otherwise every later start would crash too. What
// is not an exit code from 1 to 255 is reported and does nothing.
func (c *counter) takeCrash() (code int, err error) {
	raw, err := readSome(c.file("crash"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := errors.Join(os.Remove(c.file("crash")), c.syncDir()); err != nil {
		return 0, err
	}
	code, err = strconv.Atoi(string(bytes.TrimSpace(raw)))
	if err != nil || code < 1 || code > 255 {
		return 0, fmt.Errorf("%s held %q, want an exit code from 1 to 255", c.file("crash"), raw)
	}
	return code, nil
}

// readSome reads as much of a file as an exit code can need, and a little more to see that it is none.
func readSome(name string) ([]byte, error) {
	f, err := os.Open(name) // #nosec G304 -- The name is one of this program's own files in /state.
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 32))
}

// ServeHTTP answers every request with the current count.
func (c *counter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, c.count.Load())
}
