package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/tenantstest"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

// vault is a Hersh of processes that know secrets, with all that they said.
type vault struct {
	t      *testing.T
	docker *dockertest.Docker
	secure *tenantstest.Secure
	dir    string
	said   map[string]string // By where.
}

const (
	plantedPassword = "PlantedPassword4711"
	plantedToken    = "PlantedToken0815"
	plantedSeed     = "SUAPLANTEDSEEDTHATISNONE"
)

// TestDockerNoSecretGetsOut plants keys, passwords and TLS keys, runs everything, failures included, and looks for them in whatever
// came out: logs, errors, metrics, arguments, images, containers, history.
func TestDockerNoSecretGetsOut(t *testing.T) {
	t.Parallel()
	docker := dockertest.Require(t)
	host := events.HostID("h-" + docker.Run[:10])
	v := &vault{t: t, docker: docker, dir: t.TempDir(), said: map[string]string{}}
	v.secure = tenantstest.Start(t, []events.HostID{host}, []events.UserID{"alice"})

	sup := v.serve("supervisor", "cmd/supervisor", "supervisor runs", "--nkey", v.secure.Dir.KeyFile(tenants.Supervisor))
	exe := v.serve("executor", "cmd/executor", "executor runs", "--nkey", v.secure.Dir.KeyFile(tenants.HostKeyName(host)),
		"--host-id", string(host), "--dir", filepath.Join(v.dir, "programs"), "--runtime", docker.Runtime(), "--label", dockertest.Label+"="+docker.Run)
	// Services that are given what does not work.
	v.serve("supervisor with a password", "cmd/supervisor", "does not answer yet", "--server", "nats://bob:"+plantedPassword+"@127.0.0.1:1,nats://"+plantedToken+"@127.0.0.1:1")
	v.serve("supervisor with a broken URL", "cmd/supervisor", "does not answer yet", "--server", "nats://bob:"+plantedPassword+"@127.0.0.1:%zz")
	v.serve("executor with a broken key", "cmd/executor", "does not answer yet", "--fake", "--host-id", "h9", "--nkey", v.file("broken.nk", plantedSeed))

	v.command(true, "deploy", docker.Source("log hello", "serve"), "--user", "alice", "--start", "--wait")
	for _, args := range [][]string{{"ps", "-o", "json"}, {"status", "alice", "-o", "json"}, {"history", "alice", "-o", "json"}, {"logs", "alice"}, {"doctor", "--skip-docker"}} {
		v.command(true, append(args, "--verbose")...)
	}
	v.failures()

	for name, p := range map[string]*os.Process{"supervisor": sup, "executor": exe} {
		for _, file := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Pid, file))
			if err != nil {
				t.Fatal(err)
			}
			v.said[file+" of the "+name] = string(data)
		}
		v.monitored(name)
	}
	v.onDocker(compose.LabelHost + "=" + string(host))
	v.command(true, "stop", "alice", "--wait")
	v.configuration()
	v.look()
}

// file writes a file and returns its path.
func (v *vault) file(name, content string) string {
	v.t.Helper()
	path := filepath.Join(v.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o600)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return path
}

// serve starts a service, and waits until it has logged something. What it says is read at the end.
func (v *vault) serve(name, pkg, words string, args ...string) *os.Process {
	v.t.Helper()
	path := filepath.Join(v.dir, name+".log")
	out, err := os.Create(path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer out.Close()
	args = append(args, "--http", "127.0.0.1:0", "--log-level", "debug")
	cmd := exec.Command(commands.command(v.t, module+"/"+pkg), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "NATS_URL="+v.secure.URL, "HERSH_TLS_CA="+v.secure.Dir.CertFile())
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() {
		_ = cmd.Process.Kill() // It may have ended.
		_ = cmd.Wait()
	})
	waitFor(v.t, words+" in the log of the "+name, func() bool {
		data, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(data), words)
	})
	return cmd.Process
}

// command runs hersh as alice.
func (v *vault) command(works bool, args ...string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, commands.command(v.t, module+"/cmd/hersh"), args...)
	cmd.Env = append(os.Environ(), "NATS_URL="+v.secure.URL, "HERSH_TLS_CA="+v.secure.Dir.CertFile(),
		"HERSH_NKEY="+v.secure.Dir.KeyFile(tenants.TenantKeyName("alice")), "XDG_CONFIG_HOME="+v.dir)
	out, err := cmd.CombinedOutput()
	if (err == nil) != works {
		v.t.Errorf("hersh %v: %v\n%s", args, err, out)
	}
	v.said["hersh "+strings.Join(args[:min(len(args), 2)], " ")+fmt.Sprint(len(v.said))] = string(out)
}

// failures are commands that fail over something secret.
func (v *vault) failures() {
	for name, fields := range map[string]string{
		"password": `{"url":"nats://127.0.0.1:1","user":"bob","password":"` + plantedPassword + `"}`,
		"token":    `{"url":"nats://127.0.0.1:1","token":"` + plantedToken + `"}`,
		"broken":   `{"password":"` + plantedPassword + `"`,
		"inURL":    `{"url":"nats://bob:` + plantedPassword + `@127.0.0.1:1"}`,
	} {
		v.file("nats/context/"+name+".json", fields)
		v.command(false, "ps", "--verbose", "--nkey=", "--server=", "--context", name)
	}
	broken := v.file("broken2.nk", plantedSeed)
	for _, more := range [][]string{
		{"--nkey", broken}, {"--nkey=", "--creds", broken}, {"--tls-ca", broken}, {"--tls-cert", broken, "--tls-key", broken},
		{"--user", "bob"},
		{"--nkey=", "--server", "tls://bob:" + plantedPassword + "@" + strings.TrimPrefix(v.secure.URL, "tls://")},
		{"--nkey=", "--server", "tls://" + plantedToken + "@" + strings.TrimPrefix(v.secure.URL, "tls://")},
		{"--server", "nats://bob:" + plantedPassword + "@127.0.0.1:%zz"},
	} {
		v.command(false, append([]string{"ps", "--verbose"}, more...)...)
	}
}

// monitored asks a service for all that its HTTP server tells.
func (v *vault) monitored(name string) {
	v.t.Helper()
	log, err := os.ReadFile(filepath.Join(v.dir, name+".log"))
	if err != nil {
		v.t.Fatal(err)
	}
	found := regexp.MustCompile(`http=(127\.0\.0\.1:[0-9]+)`).FindSubmatch(log)
	if found == nil {
		v.t.Fatalf("the %s does not say where it serves metrics", name)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: deadline}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/vars"} {
		resp, err := client.Get("http://" + string(found[1]) + path)
		if err != nil {
			v.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			v.t.Fatal(err)
		}
		v.said[path+" of the "+name] = string(body)
	}
}

// onDocker asks Docker for all that it knows of what the host made.
func (v *vault) onDocker(label string) {
	v.t.Helper()
	get := func(path string) {
		var out any
		v.docker.Get(path, &out)
		data, err := json.Marshal(out)
		if err != nil {
			v.t.Fatal(err)
		}
		v.said[path] = string(data)
	}
	containers, images := v.docker.Containers(label), v.docker.Images(label)
	if len(containers) == 0 || len(images) == 0 {
		v.t.Fatalf("%d containers and %d images", len(containers), len(images))
	}
	for _, c := range containers {
		get("/containers/" + c.ID + "/json")
	}
	for _, i := range images {
		get("/images/" + i.ID + "/json")
		get("/images/" + i.ID + "/history")
	}
}

// configuration is what the NATS server reads, which needs no secret key of anybody's.
func (v *vault) configuration() {
	dir := filepath.Dir(v.secure.Dir.ServerConfig())
	for _, name := range []string{"nats.conf", "accounts.conf", "model.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			v.t.Fatal(err)
		}
		v.said[name] = string(data)
	}
}

// secrets are the planted ones, and those of the keys and the certificate.
func (v *vault) secrets() map[string]string {
	out := map[string]string{"password": plantedPassword, "token": plantedToken, "seed": plantedSeed}
	dir := filepath.Dir(v.secure.Dir.ServerConfig())
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".nk") && !strings.HasSuffix(path, ".key") {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			out[filepath.Base(path)] = strings.Split(string(data), "\n")[1] // After a line that says what it is.
		}
		return err
	})
	if err != nil {
		v.t.Fatal(err)
	}
	return out
}

func (v *vault) look() {
	logs, err := filepath.Glob(filepath.Join(v.dir, "*.log"))
	if err != nil || len(logs) < 5 {
		v.t.Fatalf("%d logs, %v", len(logs), err)
	}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			v.t.Fatal(err)
		}
		v.said[filepath.Base(path)] = string(data)
	}
	secrets := v.secrets()
	if len(secrets) != 3+5 { // Provisioner, supervisor, host, alice, and the server's TLS key.
		v.t.Errorf("%d secrets: %v", len(secrets), secrets)
	}
	total := 0
	for where, text := range v.said {
		total += len(text)
		for what, secret := range secrets {
			// An argument or a variable is what the test itself gave; services and commands are given files.
			if strings.Contains(text, secret) {
				v.t.Errorf("%s holds the secret of %s", where, what)
			}
		}
	}
	v.t.Logf("%d secrets looked for in %d bytes of %d places", len(secrets), total, len(v.said))
}
