package compose

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"

	"github.com/rlaaudgjs5638/hersh/events"
)

// GenerateSpec makes the spec of one attempt of a program: sandboxed, read-only but for /state, without network, ports
// and capabilities, with limits. What it returns has passed ValidateSpec. Errors wrap ErrInvalidOptions or say what
// ValidateSpec refused.
func (b *Builder) GenerateSpec(opts BuildOpts) (*ComposeSpec, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("generate compose spec of %.100q: %w", opts.ProgramID, err)
	}
	limits := opts.Limits.OrDefault()
	spec := &ComposeSpec{Services: map[string]Service{ServiceName: {
		Image:         opts.ImageID,
		ContainerName: ContainerName(opts.ProgramID, opts.Attempt),
		Runtime:       cmp.Or(opts.Runtime, RuntimeRunsc),
		ReadOnly:      true,
		NetworkMode:   cmp.Or(opts.NetworkMode, NetworkNone),
		Volumes:       []string{opts.StatePath + ":" + StateTarget + ":rw"},
		SecurityOpt:   []string{noNewPrivileges},
		CapDrop:       []string{allCapabilities},
		MemLimit:      limits.MemoryBytes,
		MemSwapLimit:  limits.MemoryBytes,
		PidsLimit:     limits.Pids,
		CPUs:          float64(limits.CPUMillis) / 1000,
		Ulimits:       map[string]int64{UlimitOpenFiles: DefaultOpenFiles},
		Labels:        opts.labels(),
		Restart:       restartNo,
		Logging:       defaultLogging(),
	}}}
	if err := b.ValidateSpec(spec); err != nil {
		return nil, fmt.Errorf("generate compose spec of %q: %w", opts.ProgramID, err)
	}
	return spec, nil
}

// check covers what the spec no longer shows: parts that would turn into something else when put together.
func (o BuildOpts) check() error {
	if !isSafeID(string(o.ProgramID)) {
		return fmt.Errorf("%w: program ID is not 1 to %d characters of a-z, 0-9, '-' and '_'", ErrInvalidOptions, maxIDLen)
	}
	if o.HostID != "" {
		if _, err := events.ParseHostID(string(o.HostID)); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalidOptions, err)
		}
	}
	if err := o.Limits.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	if !isHostPath(o.StatePath) {
		return fmt.Errorf("%w: state path %.100q is not a clean absolute path without ':' outside of the system's own folders",
			ErrInvalidOptions, o.StatePath)
	}
	if len(o.Labels) > maxEntries {
		return fmt.Errorf("%w: more than %d labels", ErrInvalidOptions, maxEntries)
	}
	return nil
}

func (o BuildOpts) labels() map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, o.Labels)
	delete(labels, LabelUser)
	delete(labels, LabelHost)
	labels[LabelProgram] = string(o.ProgramID)
	labels[LabelAttempt] = strconv.FormatUint(o.Attempt, 10)
	if user := o.ProgramID.User(); user != "" {
		labels[LabelUser] = string(user)
	}
	if o.HostID != "" {
		labels[LabelHost] = string(o.HostID)
	}
	return labels
}

// defaultLogging bounds what the daemon keeps. The whole output is in the program's own log files.
func defaultLogging() Logging {
	return Logging{Driver: jsonFile, Options: map[string]string{maxSize: "10m", maxFile: "3"}}
}

// isSafeID accepts every ProgramID, and the short IDs of programs that live in one process.
func isSafeID(id string) bool {
	if id == "" || len(id) > maxIDLen {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_') {
			return false
		}
	}
	return true
}
