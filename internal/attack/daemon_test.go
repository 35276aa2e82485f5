package attack_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

// lie is how a daemon makes another container than it was told to, and the name of the field that it is found by.
type lie struct {
	name, field string
	change      func(config, host map[string]any)
}

// setting is a lie about one field of the host configuration.
func setting(field, key string, value any) lie {
	return lie{key, field, func(_, h map[string]any) { h[key] = value }}
}

func lies() []lie {
	mountOf := func(h map[string]any) map[string]any { return h["Mounts"].([]any)[0].(map[string]any) }
	return []lie{
		setting("runtime", "Runtime", "runc"),
		setting("privileged", "Privileged", true),
		setting("read-only root", "ReadonlyRootfs", false),
		setting("capabilities dropped", "CapDrop", nil),
		{"one capability kept", "capabilities dropped", func(_, h map[string]any) { h["CapDrop"] = []string{"NET_RAW"} }},
		setting("capabilities added", "CapAdd", []string{"SYS_ADMIN"}),
		setting("network mode", "NetworkMode", "bridge"),
		{"the host's network", "network mode", func(_, h map[string]any) { h["NetworkMode"] = "host" }},
		setting("published ports", "PublishAllPorts", true),
		setting("published ports", "PortBindings", map[string]any{"8080/tcp": []any{map[string]any{"HostPort": "0"}}}),
		setting("mounts", "Binds", []string{"/:/host"}),
		{"the Docker socket", "mounts", func(_, h map[string]any) { h["Binds"] = []string{"/var/run/docker.sock:/var/run/docker.sock"} }},
		setting("mounts", "Tmpfs", map[string]string{"/run": ""}),
		{"/state read-only", "mounts", func(_, h map[string]any) { mountOf(h)["ReadOnly"] = true }},
		{"/state elsewhere", "mounts", func(_, h map[string]any) { mountOf(h)["Target"] = "/data" }},
		{"/state of the host", "mounts", func(_, h map[string]any) { mountOf(h)["Source"] = "/etc" }},
		{"a mount more", "mounts", func(_, h map[string]any) {
			h["Mounts"] = append(h["Mounts"].([]any), map[string]any{"Type": "bind", "Source": "/etc", "Target": "/etc2"})
		}},
		{"an anonymous volume", "mounts", func(c, _ map[string]any) { c["Volumes"] = map[string]any{"/data": map[string]any{}} }},
		setting("devices", "Devices", []any{map[string]any{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}}),
		setting("devices", "DeviceCgroupRules", []string{"a *:* rwm"}),
		setting("devices", "DeviceRequests", []any{map[string]any{"Driver": "x", "Count": -1}}),
		setting("PID namespace", "PidMode", "host"),
		setting("IPC namespace", "IpcMode", "host"),
		{"shareable IPC", "IPC namespace", func(_, h map[string]any) { h["IpcMode"] = "shareable" }},
		setting("UTS namespace", "UTSMode", "host"),
		setting("user namespace", "UsernsMode", "host"),
		setting("cgroup namespace", "CgroupnsMode", "host"),
		setting("security options", "SecurityOpt", nil),
		{"no seccomp", "security options", func(_, h map[string]any) {
			h["SecurityOpt"] = []string{"no-new-privileges:true", "seccomp=unconfined"}
		}},
		{"no AppArmor", "security options", func(_, h map[string]any) { h["SecurityOpt"] = []string{"apparmor=unconfined"} }},
		setting("cgroup parent", "CgroupParent", "/elsewhere"),
		setting("extra groups", "GroupAdd", []string{"0"}),
		setting("sysctls", "Sysctls", map[string]string{"kernel.msgmax": "1"}),
		setting("out-of-memory killer disabled", "OomKillDisable", true),
		setting("out-of-memory score", "OomScoreAdj", -900),
		setting("restart policy", "RestartPolicy", map[string]any{"Name": "always"}),
		setting("automatic removal", "AutoRemove", true),
		setting("masked paths", "MaskedPaths", []string{}),
		setting("read-only paths", "ReadonlyPaths", []string{}),
		{"no memory limit", "memory limit", func(_, h map[string]any) { h["Memory"], h["MemorySwap"] = 0, 0 }},
		{"more memory", "memory limit", func(_, h map[string]any) { h["Memory"], h["MemorySwap"] = 1<<30, 1<<30 }},
		setting("memory and swap limit", "MemorySwap", 1<<30),
		setting("CPU limit", "NanoCpus", 0),
		setting("process limit", "PidsLimit", -1),
		setting("ulimits", "Ulimits", nil),
		{"more open files", "ulimits", func(_, h map[string]any) {
			h["Ulimits"] = []any{map[string]any{"Name": "nofile", "Soft": 1 << 20, "Hard": 1 << 20}}
		}},
		{"log driver", "log driver", func(_, h map[string]any) { h["LogConfig"] = map[string]any{"Type": "none"} }},
		{"unbounded log", "log options", func(_, h map[string]any) { h["LogConfig"] = map[string]any{"Type": "json-file"} }},
	}
}

// TestDaemonThatLies checks that each difference between a container and its spec removes the container before it runs, and that
// the program's log then says which it was.
func TestDaemonThatLies(t *testing.T) {
	docker := dockertest.Require(t)
	proxy := dockertest.NewProxy(t, docker)
	s := newStage(t, docker.Runtime(), proxy.Host)
	image := s.image()
	for _, l := range lies() {
		t.Run(l.field+" by "+l.name, func(t *testing.T) {
			if l.name == "Runtime" && s.runtime == compose.RuntimeRunc {
				t.Skip("Docker does not know another runtime here")
			}
			told := false
			proxy.Change(func(r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/containers/create") {
					told = true
					rewrite(t, r, l.change)
				}
				if strings.HasSuffix(r.URL.Path, "/start") {
					t.Error("the container was started")
				}
			})
			id := s.docker.ProgramID()
			p := &inmate{stage: s, id: id, image: image, limits: events.Limits{}}
			failed, ok := p.startAgain().(events.StartFailed)
			if !ok || !told || !strings.Contains(failed.Reason, "its "+l.field+" is ") {
				t.Errorf("the start ended with %#v", failed)
			}
			if left := s.docker.Containers(compose.LabelProgram + "=" + string(id)); len(left) > 0 {
				t.Errorf("the container was left behind: %v", left)
			}
		})
	}
}

// rewrite changes the body of a request that creates a container.
func rewrite(t *testing.T, r *http.Request, change func(config, host map[string]any)) {
	var config map[string]any
	data, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		t.Error(err)
		return
	}
	change(config, config["HostConfig"].(map[string]any))
	data, err = json.Marshal(config)
	if err != nil {
		t.Error(err)
	}
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(data))), int64(len(data))
}

// TestLiesCoverTheSpec keeps the table above in step with what is compared.
func TestLiesCoverTheSpec(t *testing.T) {
	var fields []string
	for _, l := range lies() {
		fields = append(fields, l.field)
	}
	slices.Sort(fields)
	if fields = slices.Compact(fields); len(fields) < 30 {
		t.Errorf("only %d fields are lied about: %v", len(fields), fields)
	}
}
