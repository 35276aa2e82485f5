package runtime

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

const (
	// maxMessage bounds one JSON message of a build; the daemon itself sends output in pieces of 32 KiB.
	maxMessage = 1 << 20
	// maxBuildLog bounds what is kept, and shipped, of the output of one build. What went wrong is always kept.
	maxBuildLog = 16 << 20
	// maxTail bounds how much of the last line of output goes into an error.
	maxTail = 400
)

// stepError says that the daemon ran the build and that it failed.
type stepError struct {
	step   string // "Step 2/3 : RUN make", or "" before the first.
	reason string // What Docker said.
	tail   string // The last line that the step printed.
}

func (e *stepError) Error() string {
	text := e.reason
	if e.step != "" {
		text = e.step + ": " + text
	}
	if e.tail != "" {
		text += " (last line of output: " + e.tail + ")"
	}
	return text
}

// buildOutput reads the stream of JSON messages of a build.
type buildOutput struct {
	log     *buildLog
	imageID string // Of the image that was built; the last one said counts, since stages have images too.
	running string // The container of the step that runs now; "" between steps.
	success bool   // The daemon said so.

	step, steps int
	stepText    string
	tail        []byte // The last line that the step printed, as far as it has come.
}

// read consumes the stream. Its error is a *stepError when the daemon says that the build failed, and
// io.ErrUnexpectedEOF when the stream breaks off without any result.
func (o *buildOutput) read(stream io.Reader) error {
	reader := bufio.NewReaderSize(stream, 64<<10)
	for {
		line, whole, err := readLine(reader, maxMessage)
		if len(bytes.TrimSpace(line)) > 0 {
			if messageErr := o.message(line, whole); messageErr != nil {
				return messageErr
			}
		}
		if errors.Is(err, io.EOF) && o.imageID == "" && !o.success {
			return io.ErrUnexpectedEOF
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (o *buildOutput) message(line []byte, whole bool) error {
	if !whole {
		return o.log.line("(a message of more than 1 MiB was left out)")
	}
	var m struct {
		Stream   string          `json:"stream"`
		Status   string          `json:"status"`
		ID       string          `json:"id"`
		Progress json.RawMessage `json:"progressDetail"`
		Error    string          `json:"error"`
		Detail   struct {
			Message string `json:"message"`
		} `json:"errorDetail"`
		Aux struct{ ID string } `json:"aux"`
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return fmt.Errorf("read build output: %w", err)
	}
	if m.Aux.ID != "" {
		o.imageID = m.Aux.ID
	}
	if reason := strings.TrimSpace(cmp.Or(m.Detail.Message, m.Error)); reason != "" {
		return &stepError{step: o.stepText, reason: reason, tail: o.lastLine()}
	}
	if m.Status != "" && len(m.Progress) <= len("{}") { // Progress bars are for screens.
		return o.log.text(strings.TrimSpace(m.ID+" "+m.Status) + "\n")
	}
	text := uncolored(m.Stream)
	o.observe(text)
	return o.log.text(text)
}

// The daemon's own lines in the stream. A step may print the like: it can then mislead about what is named here, and
// about nothing else. The numbers make even that hard.
var (
	stepLine     = regexp.MustCompile(`^Step (\d{1,4})/(\d{1,4}) : `)
	runningLine  = regexp.MustCompile(`^ ---> Running in ([0-9a-f]{12,64})\s*$`)
	removingLine = regexp.MustCompile(`^Removing intermediate container [0-9a-f]{12,64}\s*$`)
)

// uncolored takes off what the daemon puts around each piece of stderr.
func uncolored(text string) string {
	const red, end = "\x1b[91m", "\x1b[0m"
	if inner, found := strings.CutPrefix(text, red); found && strings.HasSuffix(inner, end) {
		return strings.TrimSuffix(inner, end)
	}
	return text
}

func (o *buildOutput) observe(text string) {
	if found := stepLine.FindStringSubmatch(text); found != nil {
		step, _ := strconv.Atoi(found[1])
		steps, _ := strconv.Atoi(found[2])
		if step == o.step+1 && (o.steps == 0 || steps == o.steps) {
			o.step, o.steps = step, steps
			o.stepText, o.tail, o.running = clip(strings.TrimSpace(text)), nil, ""
			return
		}
	}
	if found := runningLine.FindStringSubmatch(text); found != nil && o.running == "" {
		o.running, o.tail = found[1], nil
		return
	}
	if strings.HasPrefix(text, "Successfully built ") && o.step == o.steps {
		o.success = true
	}
	if o.running != "" && !removingLine.MatchString(text) {
		o.addTail(text)
	}
}

// addTail keeps the start of the last line that is not empty.
func (o *buildOutput) addTail(text string) {
	for line := range strings.Lines(text) {
		if bytes.HasSuffix(o.tail, []byte("\n")) && strings.TrimSpace(line) != "" {
			o.tail = o.tail[:0]
		}
		room := max(maxTail-len(o.tail), 0)
		o.tail = append(o.tail, line[:min(room, len(line))]...)
		if strings.HasSuffix(line, "\n") && !bytes.HasSuffix(o.tail, []byte("\n")) {
			o.tail = append(o.tail, '\n')
		}
	}
}

func (o *buildOutput) lastLine() string {
	return strings.ToValidUTF8(strings.TrimSpace(string(o.tail)), "\uFFFD")
}

// readLine returns the next line, and whether that is all of it: of a longer one than limit only the start comes back.
func readLine(r *bufio.Reader, limit int) (line []byte, whole bool, err error) {
	whole = true
	for {
		piece, err := r.ReadSlice('\n')
		if room := limit - len(line); len(piece) > room {
			piece, whole = piece[:room], false
		}
		line = append(line, piece...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, whole, err
		}
	}
}

// buildLog is the file and the live output of a build.
type buildLog struct {
	file *os.File // Nil without a path.
	live io.Writer
	left int
}

func openBuildLog(path string, live io.Writer) (*buildLog, error) {
	log := &buildLog{live: live, left: maxBuildLog}
	if path == "" {
		return log, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // #nosec G304 -- The path is made of a parsed ID.
	if err != nil {
		return nil, fmt.Errorf("open build log: %w", err)
	}
	log.file = file
	return log, nil
}

// text writes output until the bound is reached, and then says so once.
func (l *buildLog) text(s string) error {
	if l.left <= 0 || s == "" {
		return nil
	}
	if len(s) > l.left {
		s = s[:l.left] + "\n(the rest of the output is left out)\n"
		l.left = 0
	}
	l.left -= len(s)
	return l.write(s)
}

// line writes a line of Hersh's own.
func (l *buildLog) line(s string) error { return l.write(s + "\n") }

func (l *buildLog) write(s string) error {
	if l.file != nil {
		if _, err := l.file.WriteString(s); err != nil {
			return fmt.Errorf("write build log: %w", err)
		}
	}
	if l.live != nil {
		if _, err := io.WriteString(l.live, s); err != nil {
			return fmt.Errorf("pass on build output: %w", err)
		}
	}
	return nil
}

func (l *buildLog) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// clip keeps an error readable whatever somebody wrote into a Dockerfile.
func clip(s string) string {
	if len(s) > maxTail {
		return strings.ToValidUTF8(s[:maxTail], "") + "…" // Not in the middle of a character.
	}
	return s
}
