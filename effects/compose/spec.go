// Package compose decides what a program's container may be. It makes the compose specification of a program, checks it
// against an allow-list, and writes it as a compose file and as `docker run` arguments. It is pure: nothing here touches
// a disk, a clock or Docker.
package compose

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/rlaaudgjs5638/hersh/events"
)

// ServiceName is the name of the one service of every ComposeSpec.
const ServiceName = "app"

// StateTarget is where a program finds its persistent folder, the only mount of its container.
const StateTarget = "/state"

// The runtimes that ValidateSpec knows. RuntimeRunc has no sandbox: a caller asks for it by name and warns.
const (
	RuntimeRunsc = "runsc" // gVisor, the default.
	RuntimeRunc  = "runc"
)

// The network modes that ValidateSpec knows.
const (
	NetworkNone   = "none" // Loopback only, the default.
	NetworkBridge = "bridge"
)

// DefaultOpenFiles is how many files one process may have open; Docker's own default is a million.
const DefaultOpenFiles = 16384

// UlimitOpenFiles is the name of the one ulimit that a spec sets.
const UlimitOpenFiles = "nofile"

// The labels of a container. They say whose it is; an executor touches no container without them.
const (
	LabelProgram = "hersh.program" // ProgramID.
	LabelUser    = "hersh.user"    // UserID; absent for IDs that name no user.
	LabelAttempt = "hersh.attempt" // Decimal attempt; "0" where there are no attempts.
	LabelHost    = "hersh.host"    // HostID of the executor that started it; absent where there are no hosts.
)

// What ValidateSpec finds. It reports everything at once: use errors.Is.
var (
	ErrPort8080Published  = errors.New("port 8080 external publish is forbidden")
	ErrPortPublished      = errors.New("publishing a port is forbidden")
	ErrInvalidRuntime     = errors.New("runtime must be runsc (gVisor)")
	ErrStateVolumeNotRW   = errors.New("state volume must be read-write")
	ErrRootFsNotReadOnly  = errors.New("root filesystem must be read-only")
	ErrNoService          = errors.New("a spec must have exactly one service, named app")
	ErrInvalidImage       = errors.New("image is not a Docker image reference")
	ErrInvalidName        = errors.New("container name is not one that Hersh gives")
	ErrMountForbidden     = errors.New("only a host folder may be mounted, at /state")
	ErrNetworkForbidden   = errors.New("network mode must be none or bridge")
	ErrCapability         = errors.New("every capability must be dropped and none added")
	ErrSecurityOpt        = errors.New("security options must be no-new-privileges:true and nothing else")
	ErrLimitMissing       = errors.New("memory, CPUs, processes and open files must be limited")
	ErrLimitRange         = errors.New("limit is outside of what a host can mean")
	ErrLoggingUnbounded   = errors.New("logs must be json-file with a max-size and a max-file")
	ErrRestartForbidden   = errors.New("a container must not be restarted by Docker itself")
	ErrInvalidEnvironment = errors.New("environment variable is not acceptable")
	ErrInvalidLabel       = errors.New("label is not acceptable")
	ErrForbiddenField     = errors.New("field must not be set")
)

// ErrInvalidOptions is wrapped by errors of GenerateSpec about options that no spec can be made of.
var ErrInvalidOptions = errors.New("invalid compose options")

// ErrInvalidFile is wrapped by errors of ParseFile about bytes that MarshalFile cannot have written.
var ErrInvalidFile = errors.New("invalid compose file")

// ComposeSpec is a compose file: the services of a program, of which there is one, named ServiceName.
type ComposeSpec struct {
	Services map[string]Service `json:"services"`
}

// Service is one container, with the field names of the compose file format. The fields of the second part exist to be
// refused by name: ValidateSpec accepts no value but their zero value.
type Service struct {
	Image         string            `json:"image"`
	ContainerName string            `json:"container_name"`
	Runtime       string            `json:"runtime"`
	ReadOnly      bool              `json:"read_only"`
	NetworkMode   string            `json:"network_mode,omitempty"` // "" means none, which Docker does not know: use Network.
	Volumes       []string          `json:"volumes,omitempty"`      // "<absolute host path>:/state:rw".
	SecurityOpt   []string          `json:"security_opt,omitempty"`
	CapDrop       []string          `json:"cap_drop,omitempty"`
	MemLimit      int64             `json:"mem_limit,omitempty"`     // Bytes.
	MemSwapLimit  int64             `json:"memswap_limit,omitempty"` // Bytes of memory and swap together; equal to MemLimit, so no swap.
	PidsLimit     int64             `json:"pids_limit,omitempty"`    // Processes and threads.
	CPUs          float64           `json:"cpus,omitempty"`          // Whole thousandths of a CPU, 0.5 is half of one.
	Ulimits       map[string]int64  `json:"ulimits,omitempty"`       // UlimitOpenFiles only, soft and hard alike, for each process.
	Environment   map[string]string `json:"environment,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Restart       string            `json:"restart,omitempty"` // "no" or "", which is the same.
	Logging       Logging           `json:"logging,omitzero"`

	Ports             []string          `json:"ports,omitempty"`
	CapAdd            []string          `json:"cap_add,omitempty"`
	Privileged        bool              `json:"privileged,omitempty"`
	Devices           []string          `json:"devices,omitempty"`
	DeviceCgroupRules []string          `json:"device_cgroup_rules,omitempty"`
	Pid               string            `json:"pid,omitempty"`
	Ipc               string            `json:"ipc,omitempty"`
	Uts               string            `json:"uts,omitempty"`
	Cgroup            string            `json:"cgroup,omitempty"`
	CgroupParent      string            `json:"cgroup_parent,omitempty"`
	UsernsMode        string            `json:"userns_mode,omitempty"`
	Isolation         string            `json:"isolation,omitempty"`
	User              string            `json:"user,omitempty"`
	GroupAdd          []string          `json:"group_add,omitempty"`
	Entrypoint        []string          `json:"entrypoint,omitempty"`
	Command           []string          `json:"command,omitempty"`
	EnvFile           []string          `json:"env_file,omitempty"`
	Tmpfs             []string          `json:"tmpfs,omitempty"`
	ShmSize           int64             `json:"shm_size,omitempty"`
	VolumesFrom       []string          `json:"volumes_from,omitempty"`
	Secrets           []string          `json:"secrets,omitempty"`
	Configs           []string          `json:"configs,omitempty"`
	Sysctls           map[string]string `json:"sysctls,omitempty"`
	OomKillDisable    bool              `json:"oom_kill_disable,omitempty"`
	OomScoreAdj       int               `json:"oom_score_adj,omitempty"`
	Networks          []string          `json:"networks,omitempty"`
	Links             []string          `json:"links,omitempty"`
	ExternalLinks     []string          `json:"external_links,omitempty"`
	ExtraHosts        []string          `json:"extra_hosts,omitempty"`
	DNS               []string          `json:"dns,omitempty"`
}

// Logging says where the output of a container goes, and how much of it is kept.
type Logging struct {
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

// Network returns the network mode to give to Docker. Docker takes an empty mode for a bridge; here it means none.
func (s Service) Network() string {
	if s.NetworkMode == "" {
		return NetworkNone
	}
	return s.NetworkMode
}

// StatePath returns the host path of the folder mounted at /state, or "" when there is none.
func (s Service) StatePath() string {
	for _, volume := range s.Volumes {
		source, rest, _ := strings.Cut(volume, ":")
		if target, _, _ := strings.Cut(rest, ":"); target == StateTarget {
			return source
		}
	}
	return ""
}

// NanoCPUs returns CPUs in the unit of the Engine API, billionths of a CPU.
func (s Service) NanoCPUs() int64 {
	return int64(math.Round(s.CPUs*1000)) * 1_000_000
}

// ContainerName returns the name of the container of an attempt. Docker keeps names unique, so that an attempt cannot
// have two containers.
func ContainerName(id events.ProgramID, attempt uint64) string {
	return fmt.Sprintf("hersh-%s-%d", id, attempt)
}

// BuildOpts is what GenerateSpec makes a spec of.
type BuildOpts struct {
	ProgramID   events.ProgramID
	ImageID     string // Docker image ID or tag.
	StatePath   string // Absolute host path of the state folder.
	NetworkMode string // "" is NetworkNone.
	Runtime     string // "" is RuntimeRunsc.

	HostID  events.HostID     // The executor that starts it; "" in one process without hosts.
	Attempt uint64            // Part of the container name.
	Limits  events.Limits     // Zero fields get the defaults of package events.
	Labels  map[string]string // Labels beside those of this package, which they cannot replace.
}

// Builder makes and checks specs. It has no state: one may be shared.
type Builder struct{}

// NewBuilder returns a Builder.
func NewBuilder() *Builder { return &Builder{} }
