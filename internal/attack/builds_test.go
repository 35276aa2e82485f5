package attack_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

// TestBuildTakesOnlyItsShare checks the limits of RUN steps, beside a program that runs.
func TestBuildTakesOnlyItsShare(t *testing.T) {
	for name, c := range map[string]struct {
		line  string
		limit time.Duration
		want  string
	}{
		"memory":    {`RUN ["/hostile", "memory"]`, dockertest.Patience, "non-zero code: 137"},
		"time":      {`RUN ["/hostile", "sit"]`, 10 * time.Second, "took too long"},
		"processes": {`RUN ["/hostile", "processes"]`, 20 * time.Second, ""}, // Bounded by memory and time only, see docs/security.md.
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, compose.RuntimeRunc, "", host.WithBuildMemory(memoryLimit))
			beside := s.startNeighbour(s.image())
			host.WithBuildTimeout(c.limit)(s.handler)
			finished := s.build(s.docker.ProgramID(), s.source(c.line))
			if finished.Success || !strings.Contains(finished.Error, c.want) {
				t.Errorf("the build ended with %+v", finished)
			}
			t.Log(finished.Error)
			beside.checkAlive()
			if left := s.docker.Containers(dockertest.Label + "=" + s.docker.Run); len(left) != 1 {
				t.Errorf("beside the neighbour there is a container left: %v", left)
			}
		})
	}
}

// TestBuildCgroup checks that a cgroup of the host bounds the processes of RUN steps.
func TestBuildCgroup(t *testing.T) {
	const most = 64
	parent := "/hersh-test-" + dockertest.Require(t).Run
	limit := makeCgroup(t, parent, "pids", "pids.max")
	if err := os.WriteFile(limit, []byte(strconv.Itoa(most)), 0o600); err != nil {
		t.Skipf("this machine bounds no processes by cgroup: %v", err)
	}
	s := newStage(t, compose.RuntimeRunc, "", host.WithBuildCgroup(parent), host.WithBuildCPUs(0.5), host.WithBuildTimeout(20*time.Second))
	id := s.docker.ProgramID()
	if finished := s.build(id, s.source(`RUN ["/hostile", "processes"]`)); finished.Success {
		t.Error("the build succeeded")
	}
	text, err := os.ReadFile(filepath.Join(s.storage.GetLogsPath(id), "build.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "resource temporarily unavailable") || strings.Contains(string(text), fmt.Sprintf(`"count":%d`, most)) {
		t.Errorf("the build said %.2000s", text)
	}
}

// makeCgroup makes a cgroup, where the controller has its own hierarchy or a part of the only one, and returns the path of one of its
// files. Docker makes it in the other hierarchies; all are removed at the end.
func makeCgroup(t *testing.T, name, controller, file string) string {
	t.Helper()
	const root = "/sys/fs/cgroup"
	dir := filepath.Join(root, controller, name)
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		dir = filepath.Join(root, name)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() {
		all, _ := filepath.Glob(filepath.Join(root, "*", name))
		for _, one := range append(all, dir) {
			if err := os.Remove(one); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("remove a cgroup: %v", err)
			}
		}
	})
	return filepath.Join(dir, file)
}

// reach is a build that wants something of the host, or puts something there.
type reach struct {
	name  string
	lines []string
	plant func(s *stage, dir string) // Puts more into the source folder.
	mayDo bool                       // It may succeed, as long as the host feels nothing and the image holds nothing of it.
}

// TestBuildReachesNothingOfTheHost tries to read a file of the host into an image, and to write one. Other programs' folders are
// files of the host as any other.
func TestBuildReachesNothingOfTheHost(t *testing.T) {
	s := newStage(t, compose.RuntimeRunc, "", host.WithBuildMemory(memoryLimit))
	other := s.docker.ProgramID() // Another tenant's program, with a secret in its state.
	s.ensure(other)
	folder := s.storage.GetStatePath(other)
	secret := filepath.Join(folder, "secret")
	s.write(secret, "the other tenant's secret", 0o644)

	for _, r := range reaches(folder, secret) {
		t.Run(r.name, func(t *testing.T) {
			here := *s
			here.t = t
			dir := here.source(r.lines...)
			if r.plant != nil {
				r.plant(&here, dir)
			}
			finished := here.build(here.docker.ProgramID(), dir)
			if finished.Success && !r.mayDo {
				t.Error("the build succeeded")
			}
			t.Logf("success %t: %s", finished.Success, finished.Error)
			if finished.Success && here.imageHas(finished.ImageID, "/got") {
				t.Error("something of the host is in the image")
			}
			if names := list(t, folder); len(names) != 1 {
				t.Errorf("the other program's folder holds %v", names)
			}
			if text, err := os.ReadFile(secret); string(text) != "the other tenant's secret" || err != nil {
				t.Errorf("the secret is %q, %v", text, err)
			}
		})
	}
}

func reaches(folder, secret string) []reach {
	link := func(target, name string) func(*stage, string) {
		return func(s *stage, dir string) {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	up := strings.Repeat("../", 12) + strings.TrimPrefix(secret, "/")
	return []reach{
		{name: "COPY of an absolute path", lines: []string{"COPY " + secret + " /got"}},
		{name: "COPY of a path that climbs", lines: []string{"COPY " + up + " /got"}},
		{name: "ADD of an absolute path", lines: []string{"ADD " + secret + " /got"}},
		{name: "ADD of a path that climbs", lines: []string{"ADD " + up + " /got"}},
		{name: "COPY of a link to a file", lines: []string{"COPY leak /got"}, plant: link(secret, "leak")},
		{name: "COPY through a link to a folder", lines: []string{"COPY leak/secret /got"}, plant: link(folder, "leak")},
		{name: "COPY of a link that climbs", lines: []string{"COPY leak /got"}, plant: link(up, "leak")},
		{name: "ADD of a link", lines: []string{"ADD leak /got"}, plant: link(secret, "leak")},
		{name: "the Dockerfile a link", plant: func(s *stage, dir string) {
			if err := os.Remove(filepath.Join(dir, "Dockerfile")); err != nil {
				s.t.Fatal(err)
			}
			link(secret, "Dockerfile")(s, dir)
		}},
		{name: "COPY from a stage's link", lines: []string{
			`RUN ["/hostile", "link", "` + secret + `", "/leak"]`, "FROM scratch", "COPY --from=0 /leak /got",
		}},
		{name: "COPY from a stage's link to a folder", lines: []string{
			`RUN ["/hostile", "link", "` + folder + `", "/leak"]`, "FROM scratch", "COPY --from=0 /leak/secret /got",
		}},
		{name: "COPY to where a link leads", mayDo: true, lines: []string{
			`RUN ["/hostile", "link", "` + folder + `", "/leak"]`, "COPY hostile /leak/owned",
		}},
		{name: "WORKDIR where a link leads", mayDo: true, lines: []string{
			`RUN ["/hostile", "link", "` + folder + `", "/leak"]`, "WORKDIR /leak", "COPY hostile owned",
		}},
		{name: "COPY from an image that is not there", lines: []string{"COPY --from=hersh.invalid/x /etc/passwd /got"}},
		{name: "a mount in RUN", lines: []string{`RUN --mount=type=bind,source=` + folder + `,target=/m ["/hostile", "whoami"]`}},
		{name: "the host's network in RUN", lines: []string{`RUN --network=host ["/hostile", "whoami"]`}},
		{name: "no sandbox in RUN", lines: []string{`RUN --security=insecure ["/hostile", "whoami"]`}},
		{name: "an archive that climbs", mayDo: true, lines: []string{"ADD evil.tar /x/"}, plant: func(s *stage, dir string) {
			s.write(filepath.Join(dir, "evil.tar"), evilArchive(s.t, strings.Repeat("../", 12)+strings.TrimPrefix(folder, "/")+"/owned"), 0o644)
		}},
		{name: "an archive with a link and a file behind it", mayDo: true, lines: []string{"ADD evil.tar /x/"}, plant: func(s *stage, dir string) {
			s.write(filepath.Join(dir, "evil.tar"), evilArchive(s.t, "leak/owned", tar.Header{Name: "leak", Linkname: folder, Typeflag: tar.TypeSymlink}), 0o644)
		}},
		{name: "an archive with a hard link", mayDo: true, lines: []string{"ADD evil.tar /x/"}, plant: func(s *stage, dir string) {
			s.write(filepath.Join(dir, "evil.tar"), evilArchive(s.t, "y", tar.Header{Name: "got", Linkname: secret, Typeflag: tar.TypeLink}), 0o644)
		}},
	}
}

// evilArchive returns a tarball of the given headers and one file.
func evilArchive(t *testing.T, file string, headers ...tar.Header) string {
	t.Helper()
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, h := range append(headers, tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}) {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = w.Write([]byte("x"))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// imageHas looks into an image from outside.
func (s *stage) imageHas(image, path string) bool {
	s.t.Helper()
	var made struct{ ID string }
	s.docker.Post("/containers/create", map[string]any{"Image": image, "Labels": s.docker.Labels(), "Cmd": []string{"x"}}, &made)
	defer s.docker.Remove(made.ID)
	return s.docker.Has("/containers/" + made.ID + "/archive?path=" + path)
}

// TestBuildWithoutNetwork checks that with no network for builds, RUN reaches nothing, and that the daemon fetches nothing for a
// Dockerfile with any network: it would do so from the host's own.
func TestBuildWithoutNetwork(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = fmt.Fprintln(w, "a secret of the host")
	}))
	defer server.Close()
	for _, network := range []string{"", "none"} {
		t.Run("network "+network, func(t *testing.T) {
			s := newStage(t, compose.RuntimeRunc, "", host.WithBuildNetwork(network))
			for _, lines := range [][]string{
				{"ADD " + server.URL + "/x /got"}, {"ARG U=" + server.URL, "ADD ${U}/x /got"}, {"ADD \\", strings.ReplaceAll(server.URL, "http", "ht'tp'") + "/x /got"},
				{`LABEL a=b\\`, `AD\`, "D " + server.URL + "/x /got"}, // Two of them do not continue a line.
			} {
				finished := s.build(s.docker.ProgramID(), s.source(lines...))
				if finished.Success || !strings.Contains(finished.Error, "host's own network") {
					t.Errorf("%v ended with %+v", lines, finished)
				}
			}
			if n := asked.Load(); n != 0 {
				t.Errorf("the host's server was asked %d times", n)
			}
			// The control is that with a network the same step gets through.
			target := s.listener(s.gateway())
			finished := s.build(s.docker.ProgramID(), s.source(`RUN ["/hostile", "reach", "`+target+`"]`))
			if reached := finished.Success; reached != (network == "") {
				t.Errorf("RUN reached the host's bridge: %t (%s)", reached, finished.Error)
			}
		})
	}
}

// TestVolumeOfAnImage checks that a VOLUME line, which gives a container a writable folder that no spec shows, keeps it from being
// started, and that nothing of it is left on the host.
func TestVolumeOfAnImage(t *testing.T) {
	s := newStage(t, dockertest.Require(t).Runtime(), "")
	for _, line := range []string{"VOLUME /data", "VOLUME /state/deep", `VOLUME ["/a", "/b"]`, "VOLUME /hostile2"} {
		image := s.image(line)
		p := &inmate{stage: s, id: s.docker.ProgramID(), image: image}
		result := fmt.Sprintf("%#v", p.startAgain())
		if !strings.Contains(result, "StartFailed") || !strings.Contains(result, "its mounts is ") {
			t.Errorf("%s: the start ended with %s", line, result)
		}
		if left := s.docker.Containers(compose.LabelProgram + "=" + string(p.id)); len(left) > 0 {
			t.Errorf("%s: the container was left behind: %v", line, left)
		}
	}
	// VOLUME /state is the folder that is mounted there anyway.
	p := s.start(s.image("VOLUME /state"), orders{Mode: "live"}, events.Limits{})
	neighbour{p}.checkAlive()
	var full struct {
		Mounts []struct{ Type, Destination string }
	}
	s.docker.Get("/containers/"+p.container+"/json", &full)
	if len(full.Mounts) != 1 || full.Mounts[0].Type != "bind" {
		t.Errorf("with VOLUME /state the mounts are %+v", full.Mounts)
	}
	p.stop()
}
