package reducer_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt with what the reducer does now; read the result as a diff")

const (
	digest events.SourceDigest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	build  events.BuildID      = "build-0123456789ab"
	alice  events.ProgramID    = "alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8"
)

// Traces name the long identifiers by these words, in what they say and in what they get.
var (
	expand = strings.NewReplacer("PROGRAM", string(alice), "DIGEST", string(digest), "BUILD", string(build))
	shrink = strings.NewReplacer(string(alice), "PROGRAM", string(digest), "DIGEST", string(build), "BUILD")
)

// TestTraces runs testdata/*.txt. A trace is a sequence of blocks, divided by empty lines. A block is a command, "----",
// and what the command gave; comments start with '#'. The commands:
//
//	create            begin with the empty log of a new program
//	event TYPE        append an event, its fields one a line ("key: value", the value as JSON or as plain text)
//	raw TYPE          append these bytes
//	state             show the whole state
//	outstanding       show what is still to be done
//	matrix            show every state against every event; with "origin: attempt" or "origin: host", late or foreign results
func TestTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no traces: %v", err)
	}
	seen := map[string]string{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runFile(t, file, seen) })
	}
	for _, row := range table {
		if !*update && seen[row] == "" {
			t.Errorf("no trace shows %q", row)
		}
	}
}

// table is every transition that moves a program, by the seed and by DESIGN section 4. Each must be in some trace.
var table = []string{
	"Created UserStartRequested Building",
	"Building FoldersEnsured(success) Building",
	"Building FoldersEnsured(failure) Error",
	"Building BuildFinished(success) Starting",
	"Building BuildFinished(failure) Error",
	"Building UserStopRequested Stopped",
	"Building HostLost Building",
	"Building HostDrained Stopped",
	"Starting RuntimeStarted Ready",
	"Starting StartFailed Error",
	"Starting UserStopRequested Stopped",
	"Starting HostLost Error",
	"Starting HostDrained Stopped",
	"Ready UserStopRequested Stopping",
	"Ready UserRestartRequested Stopping",
	"Ready RuntimeExited Error",
	"Ready HostLost Error",
	"Ready HostDrained Stopping",
	"Stopping StopFinished(success) Stopped",
	"Stopping StopFinished(success) Building",
	"Stopping StopFinished(failure) Error",
	"Stopping UserStopRequested Stopping",
	"Stopping HostLost Error",
	"Stopping HostDrained Stopping",
	"Stopped UserStartRequested Building",
	"Error UserStartRequested Building",
	"Error UserStopRequested Stopping",
	// Where nothing but an orphan moves.
	"Created ProgramCreated Created",
	"Stopped RuntimeStarted Stopped",
	"Building RuntimeStarted Building",
	"Starting RuntimeStarted Starting",
	"Ready RuntimeStarted Ready",
	"Stopping RuntimeStarted Stopping",
	"Error RuntimeStarted Error",
}

func runFile(t *testing.T, file string, seen map[string]string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := &trace{file: file, seen: seen}
	var out []string
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		answer, err := tr.run(block)
		if err != nil {
			t.Fatalf("%s:\n%s\n%v", file, block, err)
		}
		if !*update && answer != block {
			t.Errorf("%s: run the test with -update and read the diff\nwant %s\ngot  %s", file, block, answer)
		}
		out = append(out, answer)
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if tr.events == 0 {
		t.Errorf("%s has no event", file)
	}
}

// trace is the log of one program as it grows.
type trace struct {
	file   string
	seen   map[string]string // Transition to the file that shows it.
	events int

	at          reducer.Checkpoint
	outstanding reducer.Outstanding
}

// run returns the block with the command's answer in place of the old one.
func (tr *trace) run(block string) (string, error) {
	input, _, _ := strings.Cut(block, "\n----")
	var command string
	var body []string
	for line := range strings.SplitSeq(input, "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
		case command == "":
			command = line
		default:
			body = append(body, line)
		}
	}
	if command == "" {
		return input, nil // A block of comments only.
	}
	answer, err := tr.do(command, body)
	return input + "\n----\n" + strings.TrimSuffix(shrink.Replace(answer), "\n"), err
}

func (tr *trace) do(command string, body []string) (string, error) {
	verb, arg, _ := strings.Cut(command, " ")
	switch verb {
	case "create":
		tr.at, tr.outstanding = reducer.NewCheckpoint(alice), reducer.Outstanding{}
		return tr.at.State.State.String(), nil
	case "event":
		data, err := fieldsJSON(body)
		if err != nil {
			return "", err
		}
		return tr.append(events.Type(arg), data)
	case "raw":
		return tr.append(events.Type(arg), []byte(expand.Replace(strings.Join(body, "\n"))))
	case "state":
		return showState(tr.at.State), nil
	case "outstanding":
		return showOutstanding(tr.outstanding.All()), nil
	case "matrix":
		tr.events++
		return matrix(strings.Join(body, "")), nil
	}
	return "", fmt.Errorf("there is no command %q", verb)
}

func (tr *trace) append(typ events.Type, data []byte) (string, error) {
	stored := events.Stored{Seq: tr.at.Seq + 1, Time: time.Unix(int64(tr.at.Seq), 0).UTC(), Type: typ, Data: data}
	next, step, err := tr.at.Next(stored)
	if err != nil {
		return "", err
	}
	tr.at = next
	tr.events++
	tr.outstanding.Observe(step)
	if step.Ignored == "" && step.Reject == nil {
		tr.seen[fmt.Sprintf("%s %s %s", step.Before.State, outcome(step.Event), step.After.State)] = tr.file
	}
	return showStep(step), nil
}

// fieldsJSON makes an object of "key: value" lines. A value that is JSON is taken as such, anything else as a text.
func fieldsJSON(lines []string) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	for _, line := range lines {
		key, value, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found {
			return nil, fmt.Errorf("%q is no field", line)
		}
		value = expand.Replace(value)
		raw := json.RawMessage(value)
		if !json.Valid(raw) {
			raw, _ = json.Marshal(value)
		}
		fields[key] = raw
	}
	return json.Marshal(fields)
}

// outcome is an event's type, and how it ended where it can end in two ways.
func outcome(ev events.Event) string {
	switch ev.(type) {
	case events.FoldersEnsured, events.BuildFinished, events.StopFinished:
		if events.Failed(ev) {
			return string(ev.Type()) + "(failure)"
		}
		return string(ev.Type()) + "(success)"
	}
	return string(ev.Type())
}

func showStep(s reducer.Step) string {
	var b strings.Builder
	b.WriteString(s.Before.State.String())
	switch {
	case s.Reject != nil:
		fmt.Fprintf(&b, ", rejected: %s\n", s.Reject)
	case s.Ignored != "":
		fmt.Fprintf(&b, ", ignored: %s\n", s.Ignored)
	case s.After.State != s.Before.State:
		fmt.Fprintf(&b, " → %s\n", s.After.State)
	default:
		b.WriteString(", accepted\n")
	}
	before, after := fieldsOf(s.Before), fieldsOf(s.After)
	for i := range after {
		if before[i] != after[i] && after[i].name != "state" {
			fmt.Fprintf(&b, "  %s: %s → %s\n", after[i].name, before[i].value, after[i].value)
		}
	}
	for _, eff := range s.Effects {
		b.WriteString(showEffect(eff))
	}
	return b.String()
}

func showEffect(eff effects.Effect) string {
	out := fmt.Sprintf("  effect %s\n", eff.Type())
	for _, f := range fieldsOf(eff) {
		if f.value != none {
			out += fmt.Sprintf("    %s: %s\n", f.name, f.value)
		}
	}
	return out
}

func showState(s reducer.ProgramState) string {
	out := ""
	for _, f := range fieldsOf(s) {
		if f.value != none {
			out += fmt.Sprintf("%s: %s\n", f.name, f.value)
		}
	}
	return out
}

func showOutstanding(list []reducer.Pending) string {
	if len(list) == 0 {
		return "nothing"
	}
	out := ""
	for _, p := range list {
		host := "any host"
		if p.HostID != "" {
			host = "host " + string(p.HostID)
		}
		out += fmt.Sprintf("event %d, attempt %d, %s: %s\n", p.Seq, p.Attempt, host, effectNames(p.Effects))
	}
	return out
}

func effectNames(effs []effects.Effect) string {
	var names []string
	for _, eff := range effs {
		name := string(eff.Type())
		if stop, ok := eff.(effects.StopRuntime); ok {
			name += "(" + stop.ContainerID + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

const none = "-" // How a zero value is shown.

type field struct{ name, value string }

// fieldsOf lists the fields of a struct by their JSON names, those of embedded structs among them.
func fieldsOf(v any) []field {
	var list []field
	value := reflect.ValueOf(v)
	for i := range value.NumField() {
		info, f := value.Type().Field(i), value.Field(i)
		if info.Anonymous {
			list = append(list, fieldsOf(f.Interface())...)
			continue
		}
		name, _, _ := strings.Cut(info.Tag.Get("json"), ",")
		shown := none
		if !f.IsZero() || info.Type == reflect.TypeFor[reducer.State]() {
			shown = fmt.Sprintf("%+v", f.Interface())
		}
		list = append(list, field{name, shown})
	}
	return list
}
