package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
)

// containerConfig says to Docker what a valid spec says. What the spec does not speak of is said as well where Docker's
// default depends on how the daemon is set up.
func containerConfig(s compose.Service) (*container.Config, *container.HostConfig) {
	config := &container.Config{Image: s.Image, Labels: s.Labels}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		config.Env = append(config.Env, name+"="+s.Environment[name])
	}
	host := &container.HostConfig{
		Runtime:        s.Runtime,
		ReadonlyRootfs: s.ReadOnly,
		NetworkMode:    container.NetworkMode(s.Network()),
		SecurityOpt:    s.SecurityOpt,
		CapDrop:        s.CapDrop,
		IpcMode:        container.IPCModePrivate,
		CgroupnsMode:   container.CgroupnsModePrivate,
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:      container.LogConfig{Type: s.Logging.Driver, Config: s.Logging.Options},
		// A mount, unlike a bind, fails when the folder is not there, instead of making one that belongs to root.
		Mounts: []mount.Mount{{
			Type: mount.TypeBind, Source: s.StatePath(), Target: compose.StateTarget,
			BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
		}},
		Resources: container.Resources{
			Memory:     s.MemLimit,
			MemorySwap: s.MemSwapLimit,
			NanoCPUs:   s.NanoCPUs(),
			PidsLimit:  &s.PidsLimit,
			Ulimits:    ulimits(s),
		},
	}
	return config, host
}

func ulimits(s compose.Service) []*container.Ulimit {
	var list []*container.Ulimit
	for _, name := range slices.Sorted(maps.Keys(s.Ulimits)) {
		list = append(list, &container.Ulimit{Name: name, Soft: s.Ulimits[name], Hard: s.Ulimits[name]})
	}
	return list
}

// sameUlimits accepts what a daemon adds by its own configuration, which its operator chose, but for those that the spec sets.
func sameUlimits(s compose.Service, made []*container.Ulimit) bool {
	found := 0
	for _, u := range made {
		if limit, set := s.Ulimits[u.Name]; set {
			if found++; u.Soft != limit || u.Hard != limit {
				return false
			}
		}
	}
	return found == len(s.Ulimits)
}

// verify compares what Docker says it made with the spec. Its error wraps ErrSpecMismatch and names the first field that
// differs.
func verify(s compose.Service, made container.InspectResponse) error {
	if err := verifySandbox(s, made); err != nil {
		return err
	}
	h := made.HostConfig
	pids := int64(0)
	if h.PidsLimit != nil {
		pids = *h.PidsLimit
	}
	// A daemon that cannot limit swap says -1, and warns; memory itself is limited all the same.
	swapOK := h.MemorySwap == s.MemSwapLimit || h.MemorySwap == -1
	return firstMismatch(
		field{"image", !strings.HasPrefix(s.Image, "sha256:") || made.Image == s.Image, made.Image},
		field{"memory limit", h.Memory == s.MemLimit, h.Memory},
		field{"memory and swap limit", swapOK, h.MemorySwap},
		field{"CPU limit", h.NanoCPUs == s.NanoCPUs() && h.CPUQuota == 0 && h.CPUPeriod == 0, h.NanoCPUs},
		field{"process limit", pids == s.PidsLimit, pids},
		field{"ulimits", sameUlimits(s, h.Ulimits), describeUlimits(h.Ulimits)},
		field{"log driver", h.LogConfig.Type == s.Logging.Driver, h.LogConfig.Type},
		field{"log options", maps.Equal(h.LogConfig.Config, s.Logging.Options), h.LogConfig.Config},
	)
}

// verifySandbox is the part of verify about what keeps a program in. Limits may be set differently at another time; this
// may not.
func verifySandbox(s compose.Service, made container.InspectResponse) error {
	h := made.HostConfig
	return firstMismatch(
		field{"runtime", h.Runtime == s.Runtime, h.Runtime},
		field{"privileged", !h.Privileged, h.Privileged},
		field{"read-only root", h.ReadonlyRootfs == s.ReadOnly, h.ReadonlyRootfs},
		field{"capabilities dropped", slices.Equal(h.CapDrop, s.CapDrop), h.CapDrop},
		field{"capabilities added", len(h.CapAdd) == 0, h.CapAdd},
		field{"network mode", string(h.NetworkMode) == s.Network(), h.NetworkMode},
		field{"published ports", !h.PublishAllPorts && len(h.PortBindings) == 0 && !publishes(made), h.PortBindings},
		field{"mounts", onlyState(s, made), describeMounts(made)},
		field{"devices", len(h.Devices)+len(h.DeviceRequests)+len(h.DeviceCgroupRules) == 0, h.Devices},
		field{"PID namespace", h.PidMode == "", h.PidMode},
		field{"IPC namespace", h.IpcMode == container.IPCModePrivate, h.IpcMode},
		field{"UTS namespace", h.UTSMode == "", h.UTSMode},
		field{"user namespace", h.UsernsMode == "", h.UsernsMode},
		field{"cgroup namespace", h.CgroupnsMode == container.CgroupnsModePrivate, h.CgroupnsMode},
		field{"security options", slices.Equal(h.SecurityOpt, s.SecurityOpt), h.SecurityOpt},
		field{"cgroup parent", h.CgroupParent == "", h.CgroupParent},
		field{"extra groups", len(h.GroupAdd) == 0, h.GroupAdd},
		field{"sysctls", len(h.Sysctls) == 0, h.Sysctls},
		field{"out-of-memory killer disabled", h.OomKillDisable == nil || !*h.OomKillDisable, "true"},
		field{"labels", sameLabels(s.Labels, made.Config.Labels), made.Config.Labels},
		field{"restart policy", h.RestartPolicy.IsNone(), h.RestartPolicy.Name},
		field{"automatic removal", !h.AutoRemove, h.AutoRemove},
		field{"networks", onlyNetwork(s, made), describeNetworks(made)},
		field{"masked paths", contains(h.MaskedPaths, "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"), h.MaskedPaths},
		field{"read-only paths", contains(h.ReadonlyPaths, "/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"), h.ReadonlyPaths},
		field{"annotations", len(h.Annotations) == 0, h.Annotations}, // Some runtimes take orders from them.
		field{"out-of-memory score", h.OomScoreAdj == 0, h.OomScoreAdj},
		field{"real-time CPU", h.CPURealtimeRuntime == 0 && h.CPURealtimePeriod == 0, h.CPURealtimeRuntime},
		field{"links", len(h.Links) == 0, h.Links},
	)
}

// contains reports whether a list has all the elements. Newer daemons mask more than older ones.
func contains(list []string, all ...string) bool {
	for _, one := range all {
		if !slices.Contains(list, one) {
			return false
		}
	}
	return true
}

// onlyNetwork reports whether a container is on its one network, and not on another besides.
func onlyNetwork(s compose.Service, made container.InspectResponse) bool {
	if made.NetworkSettings == nil {
		return true
	}
	for name := range made.NetworkSettings.Networks {
		if name != s.Network() {
			return false
		}
	}
	return true
}

func describeNetworks(made container.InspectResponse) []string {
	if made.NetworkSettings == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(made.NetworkSettings.Networks))
}

func describeUlimits(list []*container.Ulimit) string {
	var parts []string
	for _, u := range list {
		parts = append(parts, u.String())
	}
	return strings.Join(parts, ", ")
}

// sameLabels also looks for labels of Hersh that the spec does not have: a container takes over those of its image, which
// may name anybody.
func sameLabels(spec, made map[string]string) bool {
	for _, name := range []string{compose.LabelProgram, compose.LabelUser, compose.LabelAttempt, compose.LabelHost} {
		if spec[name] != made[name] {
			return false
		}
	}
	for name, value := range spec {
		if made[name] != value {
			return false
		}
	}
	return true
}

type field struct {
	name string
	ok   bool
	got  any
}

func firstMismatch(fields ...field) error {
	for _, f := range fields {
		if !f.ok {
			return fmt.Errorf("%w: its %s is %q", ErrSpecMismatch, f.name, fmt.Sprint(f.got))
		}
	}
	return nil
}

// onlyState looks at every way by which Docker puts something into a container. An image may ask for a volume too.
func onlyState(s compose.Service, made container.InspectResponse) bool {
	h := made.HostConfig
	if len(h.Binds)+len(h.VolumesFrom)+len(h.Tmpfs) > 0 || len(made.Mounts) != 1 {
		return false
	}
	m := made.Mounts[0]
	return m.Type == mount.TypeBind && m.Source == s.StatePath() && m.Destination == compose.StateTarget && m.RW
}

// describeMounts tells users what they can change, which is not where things are on the host.
func describeMounts(made container.InspectResponse) string {
	var parts []string
	for _, m := range made.Mounts {
		parts = append(parts, fmt.Sprintf("%s on %s", m.Type, m.Destination))
	}
	return strings.Join(parts, ", ") + " (a program keeps files in /state only: a Dockerfile cannot ask for another VOLUME)"
}

func publishes(made container.InspectResponse) bool {
	if made.NetworkSettings == nil {
		return false
	}
	for _, bindings := range made.NetworkSettings.Ports {
		if len(bindings) > 0 {
			return true
		}
	}
	return false
}
