package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
)

// The exit codes of the process.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitError       = 3   // The program ended in Error.
	exitInterrupted = 130 // As shells know it.
)

// app is what every command works with.
type app struct {
	globals
	ctx    context.Context // Ends with Ctrl-C.
	out    io.Writer
	errOut io.Writer
	outTTY bool
	errTTY bool
}

func newApp(ctx context.Context, g globals, out, errOut *os.File) *app {
	return &app{globals: g, ctx: ctx, out: out, errOut: errOut, outTTY: isTerminal(out), errTTY: isTerminal(errOut)}
}

// isTerminal takes any character device for one: writing a progress line to /dev/null does no harm.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

func (a *app) json() bool { return a.Output == "json" }

// connect connects to Hersh; the caller closes the client.
func (a *app) connect() (*client.Client, error) {
	url, access, err := a.access()
	if err != nil {
		return nil, err
	}
	c, err := client.Connect(url, append(access, nats.Name("hersh command line"), nats.Timeout(5*time.Second), client.ReportOutages(a.away))...)
	if err != nil {
		return nil, &connectError{server: bus.Redact(url), err: err}
	}
	return c, nil
}

// away tells of a connection that was lost and does not come back.
func (a *app) away(waited time.Duration, err error) {
	fmt.Fprintf(a.errOut, "hersh: no connection to NATS for %s, trying on (%v)\n", waited, err)
}

// finish tells of an error and returns the exit code.
func (a *app) finish(err error) int {
	var coded *exitCode
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded) && coded.err == nil:
		return coded.code
	case a.ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	fmt.Fprintln(a.errOut, "hersh:", a.explain(err))
	if a.Verbose {
		fmt.Fprintln(a.errOut, "hersh: the whole error:", err)
	}
	if coded != nil {
		return coded.code
	}
	return exitFailed
}

// print writes a value as JSON, on one line.
func (a *app) print(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// note writes a line for people beside the output proper.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.errOut, format+"\n", args...) }

// table writes rows with aligned columns; the first is the heading.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = oneLine(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return w.Flush()
}

// oneLine makes a text from somewhere else fit for a cell: nothing in it moves the cursor or colours the terminal.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }), " | ")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// orDash is for cells that would be empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// age says how long ago something was, in one unit.
func age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	d := max(now.Sub(then), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// stamp writes a time so that it can be given back to replay --at.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// progress is one line on a terminal that is written again and again; elsewhere it is nothing.
type progress struct {
	w     io.Writer
	shown bool
}

func (a *app) progress() *progress {
	if !a.errTTY {
		return &progress{w: io.Discard}
	}
	return &progress{w: a.errOut}
}

func (p *progress) show(format string, args ...any) {
	p.shown = true
	fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.shown = false
}
