package compose

import (
	"errors"
	"flag"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
	"pgregory.net/rapid"
)

const (
	testID    = events.ProgramID("alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	testImage = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

func testOpts() BuildOpts {
	return BuildOpts{
		ProgramID: testID, ImageID: testImage, StatePath: "/srv/hersh/x/state", HostID: "h1", Attempt: 3,
		Limits: events.Limits{CPUMillis: 500}, Labels: map[string]string{"hersh.test": "a $run", LabelProgram: "forged"},
	}
}

func generate(t *testing.T, opts BuildOpts) *ComposeSpec {
	t.Helper()
	spec, err := NewBuilder().GenerateSpec(opts)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestGenerateSpec(t *testing.T) {
	got := generate(t, testOpts()).Services[ServiceName]
	want := Service{
		Image: testImage, ContainerName: "hersh-" + string(testID) + "-3", Runtime: "runsc", ReadOnly: true, NetworkMode: "none",
		Volumes: []string{"/srv/hersh/x/state:/state:rw"}, SecurityOpt: []string{"no-new-privileges:true"}, CapDrop: []string{"ALL"},
		MemLimit: 256 << 20, MemSwapLimit: 256 << 20, PidsLimit: 256, CPUs: 0.5, Ulimits: map[string]int64{"nofile": 16384}, Restart: "no",
		Labels: map[string]string{
			"hersh.program": string(testID), "hersh.user": "alice", "hersh.attempt": "3", "hersh.host": "h1", "hersh.test": "a $run",
		},
		Logging: Logging{Driver: "json-file", Options: map[string]string{"max-size": "10m", "max-file": "3"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.NanoCPUs() != 500_000_000 || got.StatePath() != "/srv/hersh/x/state" {
		t.Errorf("NanoCPUs %d, StatePath %q", got.NanoCPUs(), got.StatePath())
	}
}

func TestGenerateSpecChoices(t *testing.T) {
	opts := BuildOpts{ProgramID: "my-prog", ImageID: "counter:1", StatePath: "/tmp/state", NetworkMode: "bridge", Runtime: "runc",
		Limits: events.Limits{MemoryBytes: 64 << 20, CPUMillis: 1500, Pids: 8}}
	got := generate(t, opts).Services[ServiceName]
	if got.ContainerName != "hersh-my-prog-0" || got.Runtime != "runc" || got.NetworkMode != "bridge" {
		t.Errorf("got %+v", got)
	}
	if got.MemLimit != 64<<20 || got.MemSwapLimit != 64<<20 || got.NanoCPUs() != 1_500_000_000 || got.PidsLimit != 8 {
		t.Errorf("got limits %+v", got)
	}
	want := map[string]string{LabelProgram: "my-prog", LabelAttempt: "0"}
	if !reflect.DeepEqual(got.Labels, want) {
		t.Errorf("got labels %v, want %v", got.Labels, want)
	}
}

func TestGenerateSpecRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range maxEntries + 1 {
		many[strings.Repeat("a", i+1)] = ""
	}
	tests := []struct {
		name   string
		change func(*BuildOpts)
		want   error
	}{
		{"no ID", func(o *BuildOpts) { o.ProgramID = "" }, ErrInvalidOptions},
		{"ID climbs", func(o *BuildOpts) { o.ProgramID = "../x" }, ErrInvalidOptions},
		{"ID with dots", func(o *BuildOpts) { o.ProgramID = ".." }, ErrInvalidOptions},
		{"ID in upper case", func(o *BuildOpts) { o.ProgramID = "My-Prog" }, ErrInvalidOptions},
		{"ID like a flag", func(o *BuildOpts) { o.ProgramID = "-x" }, ErrInvalidOptions},
		{"ID with a space", func(o *BuildOpts) { o.ProgramID = "a b" }, ErrInvalidOptions},
		{"ID too long", func(o *BuildOpts) { o.ProgramID = events.ProgramID(strings.Repeat("a", 300)) }, ErrInvalidOptions},
		{"host", func(o *BuildOpts) { o.HostID = "H 1" }, events.ErrInvalidID},
		{"negative limit", func(o *BuildOpts) { o.Limits.Pids = -1 }, ErrInvalidOptions},
		{"too little CPU", func(o *BuildOpts) { o.Limits.CPUMillis = 9 }, ErrLimitRange},
		{"too much CPU", func(o *BuildOpts) { o.Limits.CPUMillis = math.MaxInt64 }, ErrLimitRange},
		{"too many labels", func(o *BuildOpts) { o.Labels = many }, ErrInvalidOptions},
		{"label is no name", func(o *BuildOpts) { o.Labels = map[string]string{"a=b": ""} }, ErrInvalidLabel},
		{"no state", func(o *BuildOpts) { o.StatePath = "" }, ErrInvalidOptions},
		{"relative state", func(o *BuildOpts) { o.StatePath = "state" }, ErrInvalidOptions},
		{"state not clean", func(o *BuildOpts) { o.StatePath = "/srv/../etc" }, ErrInvalidOptions},
		{"state ends in a slash", func(o *BuildOpts) { o.StatePath = "/srv/state/" }, ErrInvalidOptions},
		{"state with options", func(o *BuildOpts) { o.StatePath = "/srv/state:/state:rw" }, ErrInvalidOptions},
		{"state is the root", func(o *BuildOpts) { o.StatePath = "/" }, ErrInvalidOptions},
		{"state is Docker's socket", func(o *BuildOpts) { o.StatePath = "/var/run/docker.sock" }, ErrInvalidOptions},
		{"state of the kernel", func(o *BuildOpts) { o.StatePath = "/proc" }, ErrInvalidOptions},
		{"state with a line break", func(o *BuildOpts) { o.StatePath = "/srv/a\nb" }, ErrInvalidOptions},
		{"image", func(o *BuildOpts) { o.ImageID = "--privileged" }, ErrInvalidImage},
		{"no image", func(o *BuildOpts) { o.ImageID = "" }, ErrInvalidImage},
		{"runtime", func(o *BuildOpts) { o.Runtime = "kata" }, ErrInvalidRuntime},
		{"network", func(o *BuildOpts) { o.NetworkMode = "host" }, ErrNetworkForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts := testOpts()
			tt.change(&opts)
			spec, err := NewBuilder().GenerateSpec(opts)
			if !errors.Is(err, tt.want) || spec != nil {
				t.Errorf("got %v, %v; want %v", spec, err, tt.want)
			}
		})
	}
}

// hostile is a valid spec with one thing wrong.
type hostile struct {
	name   string
	change func(*Service)
	want   error
}

func hostileSpecs() []hostile {
	tests := []hostile{
		{"runtime absent", func(s *Service) { s.Runtime = "" }, ErrInvalidRuntime},
		{"runtime unknown", func(s *Service) { s.Runtime = "kata" }, ErrInvalidRuntime},
		{"runtime in capitals", func(s *Service) { s.Runtime = "RUNSC" }, ErrInvalidRuntime},
		{"runtime with a space", func(s *Service) { s.Runtime = "runsc " }, ErrInvalidRuntime},
		{"root writable", func(s *Service) { s.ReadOnly = false }, ErrRootFsNotReadOnly},

		{"state read-only", func(s *Service) { s.Volumes = []string{"/srv/s:/state:ro"} }, ErrStateVolumeNotRW},
		{"state without mode", func(s *Service) { s.Volumes = []string{"/srv/s:/state"} }, ErrStateVolumeNotRW},
		{"state with more modes", func(s *Service) { s.Volumes = []string{"/srv/s:/state:rw,shared"} }, ErrStateVolumeNotRW},
		{"state with more fields", func(s *Service) { s.Volumes = []string{"/srv/s:/state:rw:rw"} }, ErrStateVolumeNotRW},
		{"state absent", func(s *Service) { s.Volumes = nil }, ErrStateVolumeNotRW},
		{"state twice", func(s *Service) { s.Volumes = append(s.Volumes, "/srv/t:/state:rw") }, ErrMountForbidden},
		{"state misspelt", func(s *Service) { s.Volumes = []string{"/srv/s:/state/:rw"} }, ErrMountForbidden},
		{"a second mount", func(s *Service) { s.Volumes = append(s.Volumes, "/srv/t:/data:rw") }, ErrMountForbidden},
		{"mount below state", func(s *Service) { s.Volumes = append(s.Volumes, "/srv/t:/state/x:rw") }, ErrMountForbidden},
		{"mount of a socket", func(s *Service) { s.Volumes = append(s.Volumes, "/var/run/docker.sock:/s:rw") }, ErrMountForbidden},
		{"state is a socket", func(s *Service) { s.Volumes = []string{"/var/run/docker.sock:/state:rw"} }, ErrMountForbidden},
		{"state is the root", func(s *Service) { s.Volumes = []string{"/:/state:rw"} }, ErrMountForbidden},
		{"state is /etc", func(s *Service) { s.Volumes = []string{"/etc:/state:rw"} }, ErrMountForbidden},
		{"state below /sys", func(s *Service) { s.Volumes = []string{"/sys/fs:/state:rw"} }, ErrMountForbidden},
		{"state climbs", func(s *Service) { s.Volumes = []string{"/srv/../etc:/state:rw"} }, ErrMountForbidden},
		{"state relative", func(s *Service) { s.Volumes = []string{"./s:/state:rw"} }, ErrMountForbidden},
		{"state a named volume", func(s *Service) { s.Volumes = []string{"data:/state:rw"} }, ErrMountForbidden},
		{"state in a home", func(s *Service) { s.Volumes = []string{"~/s:/state:rw"} }, ErrMountForbidden},
		{"volume anonymous", func(s *Service) { s.Volumes = append(s.Volumes, "/data") }, ErrMountForbidden},
		{"volume empty", func(s *Service) { s.Volumes = append(s.Volumes, "") }, ErrMountForbidden},

		{"network of the host", func(s *Service) { s.NetworkMode = "host" }, ErrNetworkForbidden},
		{"network of a container", func(s *Service) { s.NetworkMode = "container:db" }, ErrNetworkForbidden},
		{"network of a service", func(s *Service) { s.NetworkMode = "service:db" }, ErrNetworkForbidden},
		{"network by name", func(s *Service) { s.NetworkMode = "hersh_default" }, ErrNetworkForbidden},
		{"network default", func(s *Service) { s.NetworkMode = "default" }, ErrNetworkForbidden},
		{"network in capitals", func(s *Service) { s.NetworkMode = "None" }, ErrNetworkForbidden},

		{"privileges not bound", func(s *Service) { s.SecurityOpt = nil }, ErrSecurityOpt},
		{"privileges unbound", func(s *Service) { s.SecurityOpt = []string{"no-new-privileges:false"} }, ErrSecurityOpt},
		{"seccomp off", func(s *Service) { s.SecurityOpt = append(s.SecurityOpt, "seccomp:unconfined") }, ErrSecurityOpt},
		{"apparmor off", func(s *Service) { s.SecurityOpt = []string{"apparmor=unconfined"} }, ErrSecurityOpt},
		{"capabilities kept", func(s *Service) { s.CapDrop = nil }, ErrCapability},
		{"one dropped only", func(s *Service) { s.CapDrop = []string{"NET_RAW"} }, ErrCapability},
		{"capability added", func(s *Service) { s.CapAdd = []string{"SYS_ADMIN"} }, ErrCapability},
		{"all added", func(s *Service) { s.CapAdd = []string{"ALL"} }, ErrCapability},

		{"memory unlimited", func(s *Service) { s.MemLimit = 0 }, ErrLimitMissing},
		{"memory negative", func(s *Service) { s.MemLimit = -1 }, ErrLimitMissing},
		{"memory too small", func(s *Service) { s.MemLimit, s.MemSwapLimit = 1, 1 }, ErrLimitRange},
		{"memory too large", func(s *Service) { s.MemLimit, s.MemSwapLimit = math.MaxInt64, math.MaxInt64 }, ErrLimitRange},
		{"swap unlimited", func(s *Service) { s.MemSwapLimit = -1 }, ErrLimitMissing},
		{"swap absent", func(s *Service) { s.MemSwapLimit = 0 }, ErrLimitMissing},
		{"swap", func(s *Service) { s.MemSwapLimit *= 2 }, ErrLimitRange},
		{"processes absent", func(s *Service) { s.PidsLimit = 0 }, ErrLimitMissing},
		{"processes unlimited", func(s *Service) { s.PidsLimit = -1 }, ErrLimitMissing},
		{"processes too many", func(s *Service) { s.PidsLimit = math.MaxInt64 }, ErrLimitRange},
		{"CPUs absent", func(s *Service) { s.CPUs = 0 }, ErrLimitMissing},
		{"CPUs negative", func(s *Service) { s.CPUs = -1 }, ErrLimitMissing},
		{"CPUs no number", func(s *Service) { s.CPUs = math.NaN() }, ErrLimitMissing},
		{"CPUs infinite", func(s *Service) { s.CPUs = math.Inf(1) }, ErrLimitRange},
		{"CPUs too fine", func(s *Service) { s.CPUs = 0.12345 }, ErrLimitRange},
		{"CPUs too few", func(s *Service) { s.CPUs = 0.001 }, ErrLimitRange},

		{"open files unlimited", func(s *Service) { s.Ulimits = nil }, ErrLimitMissing},
		{"open files negative", func(s *Service) { s.Ulimits[UlimitOpenFiles] = -1 }, ErrLimitMissing},
		{"open files too many", func(s *Service) { s.Ulimits[UlimitOpenFiles] = 1<<20 + 1 }, ErrLimitRange},
		{"open files too few", func(s *Service) { s.Ulimits[UlimitOpenFiles] = 3 }, ErrLimitRange},
		{"another ulimit", func(s *Service) { s.Ulimits["rtprio"] = 99 }, ErrForbiddenField},

		{"logs absent", func(s *Service) { s.Logging = Logging{} }, ErrLoggingUnbounded},
		{"logs elsewhere", func(s *Service) { s.Logging.Driver = "syslog" }, ErrLoggingUnbounded},
		{"logs without options", func(s *Service) { s.Logging.Options = nil }, ErrLoggingUnbounded},
		{"logs without size", func(s *Service) { s.Logging.Options = map[string]string{"max-file": "3", "x": "y"} }, ErrLoggingUnbounded},
		{"logs in gigabytes", func(s *Service) { s.Logging.Options["max-size"] = "10g" }, ErrLoggingUnbounded},
		{"logs of unlimited size", func(s *Service) { s.Logging.Options["max-size"] = "-1" }, ErrLoggingUnbounded},
		{"logs of two units", func(s *Service) { s.Logging.Options["max-size"] = "1mk" }, ErrLoggingUnbounded},
		{"logs of too many digits", func(s *Service) { s.Logging.Options["max-size"] = "1000m" }, ErrLoggingUnbounded},
		{"logs of no files", func(s *Service) { s.Logging.Options["max-file"] = "0" }, ErrLoggingUnbounded},
		{"logs with more", func(s *Service) { s.Logging.Options["labels"] = "x" }, ErrLoggingUnbounded},
		{"restart", func(s *Service) { s.Restart = "always" }, ErrRestartForbidden},
		{"restart on failure", func(s *Service) { s.Restart = "on-failure:3" }, ErrRestartForbidden},

		{"image absent", func(s *Service) { s.Image = "" }, ErrInvalidImage},
		{"image a flag", func(s *Service) { s.Image = "-v=/:/x" }, ErrInvalidImage},
		{"image with a space", func(s *Service) { s.Image = "a b" }, ErrInvalidImage},
		{"image a variable", func(s *Service) { s.Image = "${IMAGE}" }, ErrInvalidImage},
		{"image too long", func(s *Service) { s.Image = strings.Repeat("a", 257) }, ErrInvalidImage},
		{"name absent", func(s *Service) { s.ContainerName = "" }, ErrInvalidName},
		{"name of another", func(s *Service) { s.ContainerName = "postgres" }, ErrInvalidName},
		{"name of another attempt", func(s *Service) { s.ContainerName = ContainerName(testID, 4) }, ErrInvalidName},
		{"name a path", func(s *Service) { s.ContainerName += "/../x" }, ErrInvalidName},
		{"labels absent", func(s *Service) { s.Labels = nil }, ErrInvalidLabel},
		{"label of an ID that climbs", func(s *Service) { s.Labels[LabelProgram] = "../x" }, ErrInvalidLabel},
		{"label of another user", func(s *Service) { s.Labels[LabelUser] = "bob" }, ErrInvalidLabel},
		{"label of no attempt", func(s *Service) { s.Labels[LabelAttempt] = "-1" }, ErrInvalidLabel},
		{"label of no host", func(s *Service) { s.Labels[LabelHost] = "any" }, ErrInvalidLabel},
		{"label with a line break", func(s *Service) { s.Labels["x"] = "a\nb" }, ErrInvalidLabel},
		{"label like a flag", func(s *Service) { s.Labels["--privileged"] = "" }, ErrInvalidLabel},
		{"variable without name", func(s *Service) { s.Environment = map[string]string{"": "x"} }, ErrInvalidEnvironment},
		{"variable is two", func(s *Service) { s.Environment = map[string]string{"A=B": "x"} }, ErrInvalidEnvironment},
		{"variable starts with a digit", func(s *Service) { s.Environment = map[string]string{"1A": "x"} }, ErrInvalidEnvironment},
		{"variable binary", func(s *Service) { s.Environment = map[string]string{"A": "x\x00"} }, ErrInvalidEnvironment},
		{"variable invalid UTF-8", func(s *Service) { s.Environment = map[string]string{"A": "\xff"} }, ErrInvalidEnvironment},
		{"variable too long", func(s *Service) { s.Environment = map[string]string{"A": strings.Repeat("x", 1<<20)} }, ErrInvalidEnvironment},

		{"port", func(s *Service) { s.Ports = []string{"80:80"} }, ErrPortPublished},
		{"port in words", func(s *Service) { s.Ports = []string{"http"} }, ErrPortPublished},
		{"port a variable", func(s *Service) { s.Ports = []string{"${PORT}"} }, ErrPortPublished},
		{"port range beside 8080", func(s *Service) { s.Ports = []string{"8081-8090"} }, ErrPortPublished},
		{"port empty", func(s *Service) { s.Ports = []string{""} }, ErrPortPublished},
		{"digits of an address", func(s *Service) { s.Ports = []string{"[::8080]:80:80"} }, ErrPortPublished},
	}
	for _, port := range []string{
		"8080", "8080:8080", "80:8080", "8080:80", ":8080", "127.0.0.1:80:8080/tcp", "0.0.0.0:8080:80", "8080/udp", "8080:8080/sctp",
		"127.0.0.1::8080", "[::1]:80:8080", "8000-9000", "8000-9000:8000-9000", "9000-8000", "127.0.0.1:7000-7080:8000-8080/tcp",
		"08080", " 8080 ", "8080-8080", "::8080",
	} {
		tests = append(tests, hostile{"port " + port, func(s *Service) { s.Ports = []string{"1:1", port} }, ErrPort8080Published})
	}
	return append(tests, forbiddenFields()...)
}

// forbiddenFields sets, one by one, every field that no spec may set; a field added to Service is found by itself.
func forbiddenFields() []hostile {
	accepted := reflect.ValueOf(Service{
		Image: "x", ContainerName: "x", Runtime: "x", ReadOnly: true, NetworkMode: "x", Volumes: []string{"x"}, SecurityOpt: []string{"x"},
		CapDrop: []string{"x"}, MemLimit: 1, MemSwapLimit: 1, PidsLimit: 1, CPUs: 1, Ulimits: map[string]int64{"x": 1}, Environment: map[string]string{"x": ""},
		Labels: map[string]string{"x": ""}, Restart: "x", Logging: Logging{Driver: "x"}, Ports: []string{"x"}, CapAdd: []string{"x"},
	})
	var tests []hostile
	for i := range accepted.NumField() {
		if !accepted.Field(i).IsZero() {
			continue
		}
		set := func(s *Service) {
			switch f := reflect.ValueOf(s).Elem().Field(i); f.Kind() {
			case reflect.Bool:
				f.SetBool(true)
			case reflect.String:
				f.SetString("host")
			case reflect.Slice:
				f.Set(reflect.ValueOf([]string{"/dev/kmsg"}))
			case reflect.Map:
				f.Set(reflect.MakeMap(f.Type()))
				f.SetMapIndex(reflect.ValueOf("x"), reflect.Zero(f.Type().Elem()))
			default:
				f.SetInt(1)
			}
		}
		tests = append(tests, hostile{accepted.Type().Field(i).Name, set, ErrForbiddenField})
	}
	return tests
}

func TestValidateSpecRefuses(t *testing.T) {
	for _, tt := range hostileSpecs() {
		t.Run(tt.name, func(t *testing.T) {
			spec := generate(t, testOpts())
			service := spec.Services[ServiceName]
			tt.change(&service)
			spec.Services[ServiceName] = service
			b := NewBuilder()
			if err := b.ValidateSpec(spec); !errors.Is(err, tt.want) {
				t.Errorf("ValidateSpec: got %v, want %v", err, tt.want)
			}
			if args, err := b.ToDockerRunArgs(spec); !errors.Is(err, tt.want) || args != nil {
				t.Errorf("ToDockerRunArgs: got %v, %v; want %v", args, err, tt.want)
			}
			if file, err := MarshalFile(spec); !errors.Is(err, tt.want) || file != nil {
				t.Errorf("MarshalFile: got %s, %v; want %v", file, err, tt.want)
			}
		})
	}
}

func TestValidateSpecServices(t *testing.T) {
	app := generate(t, testOpts()).Services[ServiceName]
	for name, spec := range map[string]*ComposeSpec{
		"nil":        nil,
		"none":       {},
		"other name": {Services: map[string]Service{"web": app}},
		"two":        {Services: map[string]Service{ServiceName: app, "web": app}},
	} {
		if err := NewBuilder().ValidateSpec(spec); !errors.Is(err, ErrNoService) {
			t.Errorf("%s: got %v, want %v", name, err, ErrNoService)
		}
	}
}

func TestValidateSpecReportsAll(t *testing.T) {
	spec := &ComposeSpec{Services: map[string]Service{ServiceName: {
		Ports: slices.Repeat([]string{"80"}, 100), Privileged: true, Volumes: []string{"/srv/s:/state:ro"},
	}}}
	spec.Services[ServiceName].Ports[99] = "8080"
	err := NewBuilder().ValidateSpec(spec)
	for _, want := range []error{
		ErrPort8080Published, ErrPortPublished, ErrInvalidRuntime, ErrStateVolumeNotRW, ErrRootFsNotReadOnly, ErrForbiddenField,
		ErrLimitMissing, ErrCapability, ErrSecurityOpt, ErrInvalidImage, ErrInvalidName, ErrInvalidLabel, ErrLoggingUnbounded,
	} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not reported", want)
		}
	}
	if text := err.Error(); len(text) > 4<<10 || strings.Contains(text, "\n") {
		t.Errorf("the text is not one short line: %s", text)
	}
}

func TestValidateSpecEmptyNetworkIsNone(t *testing.T) {
	spec := generate(t, testOpts())
	service := spec.Services[ServiceName]
	service.NetworkMode = ""
	spec.Services[ServiceName] = service
	args, err := NewBuilder().ToDockerRunArgs(spec)
	if err != nil || !slices.Contains(args, "--network=none") {
		t.Errorf("got %v, %v", args, err)
	}
	file, err := MarshalFile(spec)
	if err != nil || !strings.Contains(string(file), `"network_mode": "none"`) {
		t.Errorf("got %s, %v", file, err)
	}
}

func TestToDockerRunArgs(t *testing.T) {
	opts := testOpts()
	opts.ProgramID, opts.StatePath = "my-prog", "/srv/a b/state"
	spec := generate(t, opts)
	spec.Services[ServiceName].Labels["b"] = "a=b"
	service := spec.Services[ServiceName]
	service.Environment = map[string]string{"HOME": "", "A": "1"}
	spec.Services[ServiceName] = service
	want := []string{
		"--name=hersh-my-prog-3", "--runtime=runsc", "--read-only", "--network=none", "--restart=no", "--memory=268435456",
		"--memory-swap=268435456", "--pids-limit=256", "--cpus=0.5", "--ulimit=nofile=16384", "--log-driver=json-file", "--log-opt=max-file=3",
		"--log-opt=max-size=10m", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--volume=/srv/a b/state:/state:rw",
		"--label=b=a=b", "--label=hersh.attempt=3", "--label=hersh.host=h1", "--label=hersh.program=my-prog", "--label=hersh.test=a $run",
		"--env=A=1", "--env=HOME=", testImage,
	}
	for range 20 {
		got, err := NewBuilder().ToDockerRunArgs(spec)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("got  %q, %v\nwant %q", got, err, want)
		}
	}
}

var update = flag.Bool("update", false, "rewrite testdata")

// TestMarshalFile keeps the file that was seen to pass `docker-compose config` of 1.29.
func TestMarshalFile(t *testing.T) {
	const golden = "testdata/app.json"
	got, err := MarshalFile(generate(t, testOpts()))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(got) != string(want) {
		t.Errorf("%v; got\n%s\nwant\n%s", err, got, want)
	}
}

func TestParseFileRefuses(t *testing.T) {
	data, err := MarshalFile(generate(t, testOpts()))
	if err != nil {
		t.Fatal(err)
	}
	file := string(data)
	tests := []struct {
		name, file string
		want       error
	}{
		{"empty", "", ErrInvalidFile},
		{"null", "null", ErrNoService},
		{"no services", "{}", ErrNoService},
		{"YAML", "services:\n  app:\n    image: x\n", ErrInvalidFile},
		{"unknown field", strings.Replace(file, `"image"`, `"build": ".", "image"`, 1), ErrInvalidFile},
		{"version", strings.Replace(file, `{`, `{"version": "3",`, 1), ErrInvalidFile},
		{"trailing data", file + "{}", ErrInvalidFile},
		{"repeated field", strings.Replace(file, `"image"`, `"ports": ["80"], "ports": [], "image"`, 1), ErrInvalidFile},
		{"other case", strings.Replace(file, `"image"`, `"IMAGE"`, 1), ErrInvalidFile},
		{"variable", strings.Replace(file, `"h1"`, `"$HOST"`, 1), ErrInvalidLabel},
		{"variable in a text", strings.Replace(file, `$$run`, `$run`, 1), ErrInvalidFile},
		{"wrong type", strings.Replace(file, `"read_only": true`, `"read_only": "true"`, 1), ErrInvalidFile},
		{"port", strings.Replace(file, `"image"`, `"ports": ["8080"], "image"`, 1), ErrPort8080Published},
		{"privileged", strings.Replace(file, `"image"`, `"privileged": true, "image"`, 1), ErrForbiddenField},
		{"too long", file + strings.Repeat(" ", maxFileBytes), ErrInvalidFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if spec, err := ParseFile([]byte(tt.file)); !errors.Is(err, tt.want) || spec != nil {
				t.Errorf("got %v, %v; want %v", spec, err, tt.want)
			}
		})
	}
}

func TestFileRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := testOpts()
		opts.Attempt = rapid.Uint64().Draw(t, "attempt")
		opts.StatePath = "/srv/" + rapid.StringMatching(`[a-zA-Z0-9 $'"<>&é%]{1,20}`).Draw(t, "path")
		opts.Runtime = rapid.SampledFrom([]string{"", "runsc", "runc"}).Draw(t, "runtime")
		opts.NetworkMode = rapid.SampledFrom([]string{"", "none", "bridge"}).Draw(t, "network")
		opts.Limits = events.Limits{
			MemoryBytes: rapid.Int64Range(leastMemory, mostMemory).Draw(t, "memory"),
			CPUMillis:   rapid.Int64Range(10, 1000*mostCPUs).Draw(t, "cpu"),
			Pids:        rapid.Int64Range(0, mostPids).Draw(t, "pids"),
		}
		opts.Labels = map[string]string{"x": rapid.StringMatching(`[ -~]{0,30}`).Draw(t, "label")}
		spec, err := NewBuilder().GenerateSpec(opts)
		if err != nil {
			t.Fatal(err)
		}
		data, err := MarshalFile(spec)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseFile(data)
		if err != nil {
			t.Fatalf("%v of\n%s", err, data)
		}
		if !reflect.DeepEqual(spec, back) {
			t.Errorf("got %+v, want %+v", back, spec)
		}
	})
}

// FuzzSpec checks that no spec, whatever its fields hold, is accepted and then gives Docker an argument that is not on the
// list.
func FuzzSpec(f *testing.F) {
	base := func() Service {
		spec, err := NewBuilder().GenerateSpec(testOpts())
		if err != nil {
			f.Fatal(err)
		}
		return spec.Services[ServiceName]
	}
	for _, field := range []string{"", "host", "--privileged", "/:/state:rw", "/srv/x:/state:rw", "8080:8080", "ALL", "\n", "A"} {
		f.Add(uint8(0), field, "1", int64(0))
		f.Add(uint8(5), field, "=", int64(1<<30))
		f.Add(uint8(8), field, field, int64(-1))
	}
	f.Fuzz(func(t *testing.T, which uint8, a, b string, n int64) {
		s := base()
		// Each case is left valid but for what came in, so that it is the field that decides.
		switch which % 15 {
		case 0:
			s.Image = a
		case 1:
			s.ContainerName = a
		case 2:
			s.Runtime, s.NetworkMode = a, b
		case 3:
			s.Volumes = []string{a}
		case 4:
			s.Volumes = append(s.Volumes, a)
		case 5:
			s.Environment = map[string]string{a: b}
		case 6:
			s.Labels[a] = b
		case 7:
			s.SecurityOpt, s.CapDrop = append(s.SecurityOpt, a), append(s.CapDrop, b)
		case 8:
			s.MemLimit, s.MemSwapLimit = n, n
		case 9:
			s.PidsLimit, s.CPUs = n, float64(n)/1000
		case 10:
			s.CPUs = math.Float64frombits(uint64(n))
		case 11:
			s.Logging.Options[a] = b
		case 12:
			s.Restart, s.Logging.Driver = a, b
		case 13:
			s.Labels[LabelProgram], s.ContainerName = a, ContainerName(events.ProgramID(a), 3)
		case 14:
			s.Ulimits[a], s.Ulimits[UlimitOpenFiles] = n, n/2
		}
		args, err := NewBuilder().ToDockerRunArgs(&ComposeSpec{Services: map[string]Service{ServiceName: s}})
		if err == nil {
			checkArgs(t, args)
		}
	})
}

// FuzzParseFile checks that what ParseFile accepts, MarshalFile writes again, and that it is total.
func FuzzParseFile(f *testing.F) {
	spec, err := NewBuilder().GenerateSpec(testOpts())
	if err != nil {
		f.Fatal(err)
	}
	data, err := MarshalFile(spec)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"services":{"app":{"image":"$$"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := ParseFile(data)
		if err != nil {
			return
		}
		if _, err := MarshalFile(spec); err != nil {
			t.Error(err)
		}
	})
}

func checkArgs(t *testing.T, args []string) {
	image := args[len(args)-1]
	if image == "" || image[0] == '-' {
		t.Errorf("image %q", image)
	}
	seen := map[string]int{}
	for _, arg := range args[:len(args)-1] {
		flag, value, _ := strings.Cut(arg, "=")
		seen[flag]++
		var ok bool
		switch flag {
		case "--name":
			ok = strings.HasPrefix(value, "hersh-")
		case "--runtime":
			ok = value == "runsc" || value == "runc"
		case "--read-only":
			ok = value == ""
		case "--network":
			ok = value == "none" || value == "bridge"
		case "--restart":
			ok = value == "no"
		case "--cap-drop":
			ok = value == "ALL"
		case "--security-opt":
			ok = value == "no-new-privileges:true"
		case "--volume":
			ok = value[0] == '/' && strings.Count(value, ":") == 2 && strings.HasSuffix(value, ":/state:rw") && !strings.Contains(value, "/../")
		case "--log-driver":
			ok = value == "json-file"
		case "--ulimit":
			ok = strings.HasPrefix(value, "nofile=") && len(value) > len("nofile=") && strings.Trim(value[len("nofile="):], "0123456789") == ""
		case "--memory", "--memory-swap", "--pids-limit", "--cpus":
			ok = strings.Trim(value, "0123456789.") == "" && strings.Trim(value, "0.") != ""
		case "--log-opt", "--label", "--env":
			name, _, both := strings.Cut(value, "=")
			ok = name != "" && both
		default:
			ok = false
		}
		if !ok {
			t.Errorf("argument %q", arg)
		}
	}
	for _, flag := range []string{"--name", "--runtime", "--read-only", "--network", "--cap-drop", "--security-opt", "--volume",
		"--memory", "--memory-swap", "--pids-limit", "--cpus", "--ulimit", "--log-driver"} {
		if seen[flag] != 1 {
			t.Errorf("%s is there %d times in %q", flag, seen[flag], args)
		}
	}
}
