// Package dockertest gives tests a real Docker Engine: it finds out what works, labels what a test makes, and removes
// exactly that at its end. It speaks plain HTTP, so that it is a second opinion on what effects/runtime does.
package dockertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	// Label is on everything that a test makes in Docker; its value is of that test alone.
	Label = "hersh.test"

	// Patience bounds every wait of a test for something that Docker does.
	Patience = 2 * time.Minute

	programPackage = "github.com/rlaaudgjs5638/hersh/internal/dockertest/testprog"
	apiVersion     = "/v1.41" // The oldest that Hersh works with.
)

// program is the test program's binary, built once for all tests of a package.
var program = sync.OnceValues(buildProgram)

// Docker is the Docker Engine of this machine, for one test.
type Docker struct {
	Run  string // Value of Label, unlike that of any other test.
	Host string // As in DOCKER_HOST.

	t      testing.TB
	client *http.Client
	base   string
}

// Require returns the machine's Docker, or skips the test when none answers. Where HERSH_REQUIRE_DOCKER=1 or CI=true, a
// missing Docker fails the test instead. At the end of the test all that carries its label is removed.
func Require(t testing.TB) *Docker {
	t.Helper()
	d := &Docker{Run: strings.ToLower(rand.Text()), Host: dockerHost(), t: t}
	d.client, d.base = dial(d.Host)
	t.Cleanup(d.client.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := d.do(ctx, http.MethodGet, "/_ping", nil); err != nil {
		if os.Getenv("HERSH_REQUIRE_DOCKER") == "1" || os.Getenv("CI") == "true" {
			t.Fatalf("this test needs Docker: %v", err)
		}
		t.Skipf("no Docker here: %v", err)
	}
	t.Cleanup(d.removeAll)
	return d
}

// Runtime returns "runsc" when the daemon knows it, and "runc" otherwise.
func (d *Docker) Runtime() string {
	var info struct{ Runtimes map[string]any }
	d.Get("/info", &info)
	if _, found := info.Runtimes["runsc"]; found {
		return "runsc"
	}
	return "runc"
}

// Labels returns the label of the test, to be put on what it makes.
func (d *Docker) Labels() map[string]string { return map[string]string{Label: d.Run} }

// ProgramID returns a new ID of a program.
func (d *Docker) ProgramID() events.ProgramID {
	return events.NewProgramID("tester", events.BuildID("build-0123456789ab"))
}

// Source returns a new source folder: the test program with the given script as its command, from an empty image.
func (d *Docker) Source(script ...string) string {
	d.t.Helper()
	return d.SourceWith(Command(script...))
}

// Command returns the line of a Dockerfile that makes a script of the test program the command.
func Command(script ...string) string {
	words, _ := json.Marshal(append([]string{"/testprog"}, script...)) // Strings always encode.
	return "CMD " + string(words)
}

// SourceWith returns a new source folder whose Dockerfile puts the test program at /testprog of an empty image and goes on
// with the given lines.
func (d *Docker) SourceWith(lines ...string) string {
	d.t.Helper()
	dir := d.t.TempDir()
	d.WriteSource(dir, lines...)
	return dir
}

// WriteSource is SourceWith in a folder that is there. The label comes first in the Dockerfile, so that the layers that a
// failed build leaves have it as well.
func (d *Docker) WriteSource(dir string, lines ...string) {
	d.t.Helper()
	binary, err := program()
	if err != nil {
		d.t.Fatal(err)
	}
	head := []string{"FROM scratch", "LABEL " + Label + "=" + d.Run, "COPY testprog /testprog"}
	dockerfile := strings.Join(append(head, lines...), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "testprog"), binary, 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// Get reads an object of the Engine API into out.
func (d *Docker) Get(path string, out any) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	body, err := d.do(ctx, http.MethodGet, path, nil)
	if err == nil {
		err = json.Unmarshal(body, out)
	}
	if err != nil {
		d.t.Fatalf("GET %s: %v", path, err)
	}
}

// OOMTries bounds how often a test lets a program run out of memory until Docker says so. Docker 20.10 keeps it to itself where it
// hears of the kill after the exit, as on a busy machine.
const OOMTries = 5

// SaysOutOfMemory reports whether Docker itself says that a dead container ran out of memory.
func (d *Docker) SaysOutOfMemory(containerID string) bool {
	d.t.Helper()
	var c struct{ State struct{ OOMKilled bool } }
	d.Get("/containers/"+containerID+"/json", &c)
	return c.State.OOMKilled
}

// Has reports whether there is something at a path of the Engine API.
func (d *Docker) Has(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	_, err := d.do(ctx, http.MethodGet, path, nil)
	return err == nil
}

// Post sends in and reads the answer into out, each unless it is nil.
func (d *Docker) Post(path string, in, out any) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	body, err := d.do(ctx, http.MethodPost, path, in)
	if err == nil && out != nil {
		err = json.Unmarshal(body, out)
	}
	if err != nil {
		d.t.Fatalf("POST %s: %v", path, err)
	}
}

// Object is what the tests want to know of a container or an image.
type Object struct {
	ID     string `json:"Id"`
	State  string
	Labels map[string]string
}

// Containers lists the containers that have all the labels, each as "name=value" or "name", whatever their state.
func (d *Docker) Containers(labels ...string) []Object {
	d.t.Helper()
	var list []Object
	d.Get("/containers/json?all=1&filters="+labelFilter(labels), &list)
	return list
}

// Images lists the images that have all the labels, also untagged and intermediate ones.
func (d *Docker) Images(labels ...string) []Object {
	d.t.Helper()
	var list []Object
	d.Get("/images/json?all=1&filters="+labelFilter(labels), &list)
	return list
}

// Remove removes a container as somebody at the machine would.
func (d *Docker) Remove(containerID string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := d.do(ctx, http.MethodDelete, "/containers/"+containerID+"?force=1&v=1", nil); err != nil {
		d.t.Fatalf("remove container: %v", err)
	}
}

// removeAll removes the containers of the test, then its images. Removing an image takes its untagged parents with it, and
// an image with children goes after them: hence the rounds.
func (d *Docker) removeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	own := labelFilter([]string{Label + "=" + d.Run})
	left := ""
	for range 20 {
		left = d.removeEach(ctx, "/containers/json?all=1&filters="+own, "/containers/", "?force=1&v=1")
		left += d.removeEach(ctx, "/images/json?all=1&filters="+own, "/images/", "?force=1")
		if left == "" || ctx.Err() != nil {
			break
		}
	}
	if left != "" {
		d.t.Errorf("the test left behind:%s", left)
	}
}

// removeEach returns what it saw, so that only an empty list ends the rounds.
func (d *Docker) removeEach(ctx context.Context, list, prefix, query string) string {
	var objects []Object
	body, err := d.do(ctx, http.MethodGet, list, nil)
	if err == nil {
		err = json.Unmarshal(body, &objects)
	}
	if err != nil {
		return " " + err.Error()
	}
	var seen strings.Builder
	for _, object := range objects {
		_, err := d.do(ctx, http.MethodDelete, prefix+object.ID+query, nil)
		fmt.Fprintf(&seen, " %s%s (%v)", prefix, object.ID, err)
	}
	return seen.String()
}

func (d *Docker) do(ctx context.Context, method, path string, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+apiVersion+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode >= 400 {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	return answer, err
}

// WaitFor waits until the condition holds, and fails the test with the text when it does not in time.
func WaitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s in vain: %s", Patience, what)
		case <-tick.C:
		}
	}
}

func labelFilter(labels []string) string {
	data, _ := json.Marshal(map[string][]string{"label": labels})
	return url.QueryEscape(string(data))
}

func dockerHost() string {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return host
	}
	return "unix:///var/run/docker.sock"
}

// dial knows the two kinds of address that need no certificates.
func dial(host string) (*http.Client, string) {
	network, address, _ := strings.Cut(host, "://")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	return &http.Client{Transport: transport}, "http://docker"
}

func buildProgram() ([]byte, error) {
	dir, err := os.MkdirTemp("", "hersh-testprog-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "testprog")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, programPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the test program: %w\n%s", err, text)
	}
	return os.ReadFile(out)
}
