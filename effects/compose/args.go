package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// ToDockerRunArgs returns what follows `docker run` on a command line: options, each in one argument, then the image.
// The same spec gives the same arguments. A spec that ValidateSpec refuses gives its error and no arguments.
func (b *Builder) ToDockerRunArgs(spec *ComposeSpec) ([]string, error) {
	if err := b.ValidateSpec(spec); err != nil {
		return nil, fmt.Errorf("make docker run arguments: %w", err)
	}
	s := spec.Services[ServiceName]
	args := []string{
		"--name=" + s.ContainerName,
		"--runtime=" + s.Runtime,
		"--read-only",
		"--network=" + s.Network(),
		"--restart=" + restartNo,
		"--memory=" + strconv.FormatInt(s.MemLimit, 10),
		"--memory-swap=" + strconv.FormatInt(s.MemSwapLimit, 10),
		"--pids-limit=" + strconv.FormatInt(s.PidsLimit, 10),
		"--cpus=" + strconv.FormatFloat(s.CPUs, 'f', -1, 64),
		"--ulimit=" + UlimitOpenFiles + "=" + strconv.FormatInt(s.Ulimits[UlimitOpenFiles], 10),
		"--log-driver=" + s.Logging.Driver,
	}
	args = append(args, pairs("--log-opt=", s.Logging.Options)...)
	args = append(args, each("--cap-drop=", s.CapDrop)...)
	args = append(args, each("--security-opt=", s.SecurityOpt)...)
	args = append(args, each("--volume=", s.Volumes)...)
	args = append(args, pairs("--label=", s.Labels)...)
	args = append(args, pairs("--env=", s.Environment)...)
	return append(args, s.Image), nil
}

func each(flag string, values []string) []string {
	var args []string
	for _, value := range values {
		args = append(args, flag+value)
	}
	return args
}

// pairs always writes the '=' before the value: `--env=NAME` alone would take the value from the caller's environment.
func pairs(flag string, values map[string]string) []string {
	var args []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		args = append(args, flag+name+"="+values[name])
	}
	return args
}
