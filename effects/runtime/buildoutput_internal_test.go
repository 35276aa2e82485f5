package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
)

// readBuild reads messages of a build, each a stream text unless it is JSON.
func readBuild(texts ...string) (*buildOutput, string, error) {
	var stream, live bytes.Buffer
	for _, text := range texts {
		if !strings.HasPrefix(text, "{") {
			data, _ := json.Marshal(map[string]string{"stream": text})
			text = string(data)
		}
		stream.WriteString(text + "\r\n")
	}
	log, err := openBuildLog("", &live)
	if err != nil {
		return nil, "", err
	}
	output := &buildOutput{log: log}
	err = output.read(&stream)
	return output, live.String(), err
}

func TestBuildOutput(t *testing.T) {
	output, log, err := readBuild(
		`{"status":"Pulling from x","id":"latest"}`, `{"status":"Downloading","progressDetail":{"current":1,"total":9},"id":"a"}`,
		"Step 1/2 : FROM scratch", "\n", " ---> abc\n", "Step 2/2 : RUN make", "\n", " ---> Running in 0123456789ab\n", "one\n",
		"\x1b[91mtwo\n\x1b[0m", "Removing intermediate container 0123456789ab\n", " ---> def\n", `{"aux":{"ID":"sha256:1"}}`,
		`{"aux":{"ID":"sha256:2"}}`, "Successfully built def\n",
	)
	want := "latest Pulling from x\nStep 1/2 : FROM scratch\n ---> abc\nStep 2/2 : RUN make\n ---> Running in 0123456789ab\n" +
		"one\ntwo\nRemoving intermediate container 0123456789ab\n ---> def\nSuccessfully built def\n"
	if err != nil || output.imageID != "sha256:2" || log != want {
		t.Errorf("got %q, %v and the log\n%s", output.imageID, err, log)
	}
}

func TestBuildOutputOfFailure(t *testing.T) {
	_, log, err := readBuild("Step 1/3 : FROM x", "Step 9/9 : RUN lies", "Step 2/3 : RUN make\n", " ---> Running in 0123456789ab\n",
		"Step 3/3 : RUN lies\n", "half ", "a line\n", "\n", "last ", "one\n", `{"errorDetail":{"code":2,"message":"code: 2"},"error":"code: 2"}`)
	// The step has lied about itself as well as it can.
	if want := "Step 3/3 : RUN lies: code: 2"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
	if !strings.Contains(log, "last one\n") {
		t.Errorf("the log is %q", log)
	}
	_, _, err = readBuild("Step 1/1 : RUN make\n", " ---> Running in 0123456789ab\n", "half ", "a line\n", "\n", "last ", "one\n",
		`{"error":"code: 2"}`)
	if want := "Step 1/1 : RUN make: code: 2 (last line of output: last one)"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
	_, _, err = readBuild("Step 1/1 : RUN "+strings.Repeat("long", 1000), " ---> Running in 0123456789ab\n", strings.Repeat("y", 100_000),
		`{"error":"code: 2"}`)
	if err == nil || len(err.Error()) > 3*maxTail {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

func TestBuildOutputThatBreaksOff(t *testing.T) {
	for name, texts := range map[string][]string{
		"empty": nil, "after a step": {"Step 1/1 : FROM x\n"}, "a program that lies": {"Step 1/2 : FROM x\n", "Successfully built x\n"},
	} {
		if _, _, err := readBuild(texts...); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if _, _, err := readBuild("Step 1/1 : FROM x", "Successfully built x\n"); err != nil {
		t.Errorf("a daemon that names no image: %v", err)
	}
	if _, _, err := readBuild(`{"stream":`); err == nil {
		t.Error("what is no JSON is taken")
	}
}

func TestBuildOutputIsBounded(t *testing.T) {
	long := `{"stream":"` + strings.Repeat("z", 2*maxMessage) + `"}`
	_, log, err := readBuild(long, "next\n", `{"aux":{"ID":"sha256:1"}}`)
	if err != nil || log != "(a message of more than 1 MiB was left out)\nnext\n" {
		t.Errorf("a long message gives %v and %.100q", err, log)
	}
	var texts []string
	for range maxBuildLog/32_000 + 10 {
		texts = append(texts, strings.Repeat("q", 32_000))
	}
	_, log, err = readBuild(append(texts, "end", `{"error":"it failed"}`)...)
	if err == nil || len(log) > maxBuildLog+100 || !strings.HasSuffix(log, "(the rest of the output is left out)\n") {
		t.Errorf("much output gives %v and a log of %d bytes, at its end %q", err, len(log), log[len(log)-50:])
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestBuildLogOnFullDisk(t *testing.T) {
	log, err := openBuildLog("", fullDisk{})
	if err != nil {
		t.Fatal(err)
	}
	err = (&buildOutput{log: log}).read(strings.NewReader(`{"stream":"x"}`))
	if !errors.Is(sortError(context.Background(), err), ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
}

func TestSortError(t *testing.T) {
	ctx := context.Background()
	for _, outage := range []error{
		syscall.ENOSPC, io.ErrUnexpectedEOF, &url.Error{Op: "Get", Err: syscall.ECONNRESET},
		errors.New("Error response from daemon: mkdir /x: no space left on device"),
		errors.New(`connection error: desc = "transport: Error while dialing dial unix /run/containerd/containerd.sock"`),
	} {
		if err := sortError(ctx, fmt.Errorf("wrapped: %w", outage)); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v gives %v", outage, err)
		}
	}
	err := sortError(ctx, errors.New("Error response from daemon: no command specified"))
	if errors.Is(err, ErrUnavailable) || err.Error() != "no command specified" {
		t.Errorf("the daemon's reason becomes %v", err)
	}
	ended, cancel := context.WithCancelCause(ctx)
	cancel(ErrBuildTimeout)
	if err := sortError(ended, syscall.ENOSPC); !errors.Is(err, ErrBuildTimeout) || errors.Is(err, ErrUnavailable) {
		t.Errorf("the end of the context gives %v", err)
	}
	if sortError(ended, nil) != nil {
		t.Error("no error becomes one")
	}
}

// What is cut off leaves whole characters, wherever the cut falls.
func TestClip(t *testing.T) {
	for _, text := range []string{"", "x", strings.Repeat("x", maxTail), strings.Repeat("x", maxTail+1), strings.Repeat("€", maxTail), "x" + strings.Repeat("€", maxTail), strings.Repeat("🙂", maxTail)} {
		got := clip(text)
		whole, cut := strings.CutSuffix(got, "…")
		if cut != (len(text) > maxTail) || !strings.HasPrefix(text, whole) || len(whole) > maxTail || cut && len(whole) < maxTail-4 || !utf8.ValidString(got) {
			t.Errorf("%d bytes, %.5q…, became %d: %q", len(text), text, len(got), got)
		}
	}
}
