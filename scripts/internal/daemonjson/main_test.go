package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestRegister(t *testing.T) {
	const runsc = `{"runtimes":{"runsc":{"path":"/usr/bin/runsc"}}}`
	const noNetwork = `{"runtimes":{"runsc":{"path":"/usr/bin/runsc","runtimeArgs":["--network=none"]}}}`
	for _, tt := range []struct {
		name, config string
		args         []string
		want         string
		changed      bool
	}{
		{"no file", "", nil, runsc, true},
		{"a blank file", " \n", nil, runsc, true},
		{"null", "null", nil, runsc, true},
		{"no runtimes", `{"runtimes":null}`, nil, runsc, true},
		{"registered already", runsc, nil, runsc, false},
		{"an argument is added", runsc, []string{"--network=none"}, noNetwork, true},
		{"the argument is there already", noNetwork, []string{"--network=none"}, noNetwork, false},
		{
			"everything else stays",
			`{"log-opts":{"max-size":"10m"},"mtu":1e3,"future":[null,"<&>"],"runtimes":{"kata":{"runtimeType":"x"},"runsc":{"path":"/opt/runsc","runtimeArgs":["--debug"],"options":{"a":1}}}}`,
			[]string{"--network=none"},
			`{"log-opts":{"max-size":"10m"},"mtu":1e3,"future":[null,"<&>"],"runtimes":{"kata":{"runtimeType":"x"},"runsc":{"path":"/opt/runsc","runtimeArgs":["--debug","--network=none"],"options":{"a":1}}}}`,
			true,
		},
	} {
		got, changed, err := register([]byte(tt.config), "runsc", "/usr/bin/runsc", tt.args)
		if err != nil || changed != tt.changed {
			t.Errorf("%s: changed = %v, err = %v, want %v and none", tt.name, changed, err, tt.changed)
			continue
		}
		if !reflect.DeepEqual(decoded(t, got), decoded(t, []byte(tt.want))) {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func decoded(t *testing.T, raw []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return v
}

// A file that cannot be understood is somebody's work in progress: it is reported, not replaced.
func TestRegisterRefusesWhatItCannotRead(t *testing.T) {
	for _, config := range []string{`{`, `[]`, `{"runtimes":[]}`, `{"runtimes":{"runsc":"x"}}`, `{"runtimes":{"runsc":{"runtimeArgs":"x"}}}`} {
		if _, changed, err := register([]byte(config), "runsc", "/usr/bin/runsc", nil); err == nil || changed {
			t.Errorf("%s: changed = %v, err = %v, want an error", config, changed, err)
		}
	}
}

func TestRegisterInFileKeepsModeAndLink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.json"), filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(real, []byte(`{"mtu":1400}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if err := registerInFile(link, "runsc", "/usr/bin/runsc", nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	if info, err := os.Stat(real); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v, want 0600", info.Mode(), err)
	}
	raw, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	want := decoded(t, []byte(`{"mtu":1400,"runtimes":{"runsc":{"path":"/usr/bin/runsc"}}}`))
	if !reflect.DeepEqual(decoded(t, raw), want) {
		t.Errorf("got %s", raw)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%d entries are left, want the file and the link (%v)", len(left), err)
	}
}

func TestRegisterInFileMakesTheFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "docker", "daemon.json")
	if err := registerInFile(file, "runsc", "/usr/bin/runsc", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
}
