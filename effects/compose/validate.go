package compose

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	noNewPrivileges = "no-new-privileges:true"
	allCapabilities = "ALL"
	restartNo       = "no"
	jsonFile        = "json-file"
	maxSize         = "max-size"
	maxFile         = "max-file"

	maxIDLen    = 128
	maxRefLen   = 256
	maxPathLen  = 4096
	maxTextLen  = 8 << 10 // One environment variable or label.
	maxEntries  = 64      // Environment variables, and labels.
	maxListed   = 16      // Violations that an error lists.
	forbidden   = 8080    // The port of the web interface that every program may have inside.
	leastMemory = 6 << 20 // Docker refuses less.
	mostMemory  = 1 << 50
	leastCPUs   = events.MinCPUMillis / 1000.0
	mostCPUs    = 1024
	mostPids    = 1 << 22 // The kernel's own limit.
	leastFiles  = 64      // What a program needs to do anything at all.
	mostFiles   = 1 << 20 // Docker's default, which is as good as no limit.
)

// ValidateSpec reports everything in a spec that is not on the allow-list, as one error in which errors.Is finds each
// sentinel; nil means that the spec may run.
func (b *Builder) ValidateSpec(spec *ComposeSpec) error {
	if spec == nil || len(spec.Services) != 1 {
		return fmt.Errorf("validate compose spec: %w", ErrNoService)
	}
	service, found := spec.Services[ServiceName]
	if !found {
		return fmt.Errorf("validate compose spec: %w", ErrNoService)
	}
	violations := slices.Concat(
		service.checkSandbox(), service.checkPorts(), service.checkVolumes(), service.checkLimits(),
		service.checkNames(), service.checkTexts(), service.checkForbidden(),
	)
	if len(violations) == 0 {
		return nil
	}
	return fmt.Errorf("validate compose spec: %w", violationList(violations))
}

// violationList is errors.Join on one line.
type violationList []error

func (v violationList) Error() string {
	var texts []string
	for _, err := range v[:min(len(v), maxListed)] {
		texts = append(texts, err.Error())
	}
	if len(v) > maxListed {
		texts = append(texts, fmt.Sprintf("and %d more", len(v)-maxListed))
	}
	return strings.Join(texts, "; ")
}

func (v violationList) Unwrap() []error { return v }

func (s Service) checkSandbox() []error {
	var found []error
	refuse := func(bad bool, sentinel error, got any) {
		if bad {
			found = append(found, fmt.Errorf("%w: got %s", sentinel, show(got)))
		}
	}
	refuse(s.Runtime != RuntimeRunsc && s.Runtime != RuntimeRunc, ErrInvalidRuntime, s.Runtime)
	refuse(!s.ReadOnly, ErrRootFsNotReadOnly, s.ReadOnly)
	refuse(s.Network() != NetworkNone && s.Network() != NetworkBridge, ErrNetworkForbidden, s.NetworkMode)
	refuse(len(s.SecurityOpt) != 1 || s.SecurityOpt[0] != noNewPrivileges, ErrSecurityOpt, s.SecurityOpt)
	refuse(len(s.CapDrop) != 1 || s.CapDrop[0] != allCapabilities, ErrCapability, s.CapDrop)
	refuse(len(s.CapAdd) > 0, ErrCapability, s.CapAdd)
	refuse(s.Restart != "" && s.Restart != restartNo, ErrRestartForbidden, s.Restart)
	refuse(!s.Logging.bounded(), ErrLoggingUnbounded, s.Logging)
	return found
}

// bounded accepts up to 99 files of up to 999 MB, each written as one number and one unit.
func (l Logging) bounded() bool {
	if l.Driver != jsonFile || len(l.Options) != 2 {
		return false
	}
	size, files := l.Options[maxSize], l.Options[maxFile]
	number, unit := strings.TrimRight(size, "km"), ""
	if len(number) < len(size) {
		unit = size[len(number):]
	}
	return len(unit) == 1 && isCount(number, 3) && isCount(files, 2)
}

// checkPorts tells the port that is every program's own from the rest, whatever the spelling.
func (s Service) checkPorts() []error {
	var found []error
	for _, port := range s.Ports {
		sentinel := ErrPortPublished
		if mentionsPort(port, forbidden) {
			sentinel = ErrPort8080Published
		}
		found = append(found, fmt.Errorf("%w: got %s", sentinel, show(port)))
	}
	return found
}

// mentionsPort understands [[ip:]host:]container[/protocol], where host and container may be ranges.
func mentionsPort(mapping string, port int) bool {
	mapping, _, _ = strings.Cut(mapping, "/")
	if end := strings.LastIndexByte(mapping, ']'); end >= 0 {
		mapping = mapping[end+1:] // An IPv6 address may hold the digits of a port.
	}
	for part := range strings.SplitSeq(mapping, ":") {
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(strings.TrimSpace(low))
		if err != nil {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(strings.TrimSpace(high)); err != nil {
				continue
			}
		}
		if min(first, last) <= port && port <= max(first, last) {
			return true
		}
	}
	return false
}

func (s Service) checkVolumes() []error {
	var found []error
	states := 0
	for _, volume := range s.Volumes {
		fields := strings.Split(volume, ":")
		isState := len(fields) >= 2 && path.Clean(fields[1]) == StateTarget
		switch {
		case isState && (len(fields) != 3 || fields[2] != "rw"):
			found = append(found, fmt.Errorf("%w: got %s", ErrStateVolumeNotRW, show(volume)))
		case !isState || fields[1] != StateTarget || !isHostPath(fields[0]):
			found = append(found, fmt.Errorf("%w: got %s", ErrMountForbidden, show(volume)))
		}
		if isState {
			states++
		}
	}
	if states == 0 {
		found = append(found, fmt.Errorf("%w: there is none", ErrStateVolumeNotRW))
	}
	if states > 1 {
		found = append(found, fmt.Errorf("%w: more than one mount", ErrMountForbidden))
	}
	return found
}

// isHostPath accepts a path that means one folder to everyone who reads it: absolute, clean, without the separator of
// volumes. The folders of the system are refused, so that a mistake in a base folder does not hand out the host.
func isHostPath(p string) bool {
	if len(p) > maxPathLen || !path.IsAbs(p) || path.Clean(p) != p || p == "/" || strings.Contains(p, ":") || !isText(p, "") {
		return false
	}
	for _, system := range []string{"/proc", "/sys", "/dev", "/run", "/var/run", "/etc", "/boot"} {
		if p == system || strings.HasPrefix(p, system+"/") {
			return false
		}
	}
	return true
}

func (s Service) checkLimits() []error {
	var found []error
	refuse := func(bad bool, sentinel error, field string, got any) {
		if bad {
			found = append(found, fmt.Errorf("%w: %s is %v", sentinel, field, got))
		}
	}
	refuse(s.MemLimit <= 0, ErrLimitMissing, "mem_limit", s.MemLimit)
	refuse(s.MemSwapLimit <= 0, ErrLimitMissing, "memswap_limit", s.MemSwapLimit)
	refuse(s.PidsLimit <= 0, ErrLimitMissing, "pids_limit", s.PidsLimit)
	refuse(!(s.CPUs > 0), ErrLimitMissing, "cpus", s.CPUs) // Also when it is not a number.
	refuse(s.MemLimit > 0 && (s.MemLimit < leastMemory || s.MemLimit > mostMemory), ErrLimitRange, "mem_limit", s.MemLimit)
	refuse(s.MemSwapLimit > 0 && s.MemSwapLimit != s.MemLimit, ErrLimitRange, "memswap_limit, which must be that of memory,", s.MemSwapLimit)
	refuse(s.PidsLimit > mostPids, ErrLimitRange, "pids_limit", s.PidsLimit)
	files := s.Ulimits[UlimitOpenFiles]
	refuse(files <= 0, ErrLimitMissing, "ulimits.nofile", files)
	refuse(files > 0 && (files < leastFiles || files > mostFiles), ErrLimitRange, "ulimits.nofile", files)
	for _, name := range slices.Sorted(maps.Keys(s.Ulimits)) {
		refuse(name != UlimitOpenFiles, ErrForbiddenField, "ulimits."+name, s.Ulimits[name])
	}
	refuse(s.CPUs > 0 && (s.CPUs < leastCPUs || s.CPUs > mostCPUs || float64(s.NanoCPUs()/1_000_000)/1000 != s.CPUs),
		ErrLimitRange, "cpus", s.CPUs)
	return found
}

// checkNames holds image, name and labels to what GenerateSpec gives: a container is found, adopted and removed by them.
func (s Service) checkNames() []error {
	var found []error
	if !isReference(s.Image, maxRefLen, "_.-:/@") {
		found = append(found, fmt.Errorf("%w: got %s", ErrInvalidImage, show(s.Image)))
	}
	id, host := events.ProgramID(s.Labels[LabelProgram]), s.Labels[LabelHost]
	attempt, err := strconv.ParseUint(s.Labels[LabelAttempt], 10, 64)
	if !isSafeID(string(id)) || err != nil || s.Labels[LabelUser] != string(id.User()) {
		found = append(found, fmt.Errorf("%w: %s, %s and %s do not name an attempt of a program",
			ErrInvalidLabel, LabelProgram, LabelAttempt, LabelUser))
	}
	if _, err := events.ParseHostID(host); err != nil && host != "" {
		found = append(found, fmt.Errorf("%w: %s is %s", ErrInvalidLabel, LabelHost, show(host)))
	}
	if s.ContainerName != ContainerName(id, attempt) {
		found = append(found, fmt.Errorf("%w: got %s", ErrInvalidName, show(s.ContainerName)))
	}
	return found
}

// checkTexts covers all that ends up in a file or on a command line as somebody's own words.
func (s Service) checkTexts() []error {
	var found []error
	if len(s.Environment) > maxEntries {
		found = append(found, fmt.Errorf("%w: more than %d", ErrInvalidEnvironment, maxEntries))
	}
	if len(s.Labels) > maxEntries {
		found = append(found, fmt.Errorf("%w: more than %d", ErrInvalidLabel, maxEntries))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		if !isVariable(name) || !isText(s.Environment[name], "\n\t") {
			found = append(found, fmt.Errorf("%w: %s", ErrInvalidEnvironment, show(name)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		if !isReference(name, maxRefLen, "._-/") || !isText(s.Labels[name], "") {
			found = append(found, fmt.Errorf("%w: %s", ErrInvalidLabel, show(name)))
		}
	}
	return found
}

// checkForbidden refuses every field that no other check has looked at: a field added to Service is forbidden until
// somebody decides what it may hold.
func (s Service) checkForbidden() []error {
	var found []error
	value := reflect.ValueOf(s)
	for i := range value.NumField() {
		field, v := value.Type().Field(i), value.Field(i)
		switch field.Name {
		case "Image", "ContainerName", "Runtime", "ReadOnly", "NetworkMode", "Volumes", "SecurityOpt", "CapAdd", "CapDrop",
			"MemLimit", "MemSwapLimit", "PidsLimit", "CPUs", "Ulimits", "Environment", "Labels", "Restart", "Logging", "Ports":
			continue
		}
		empty := v.IsZero() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
		if !empty {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			found = append(found, fmt.Errorf("%w: %s", ErrForbiddenField, cmp.Or(name, field.Name)))
		}
	}
	return found
}

// isReference accepts letters, digits and, after the first character, the extra ones. It never starts like a flag.
func isReference(s string, limit int, extra string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || strings.IndexByte(extra, c) < 0) {
			return false
		}
	}
	return true
}

func isVariable(name string) bool {
	first := name != "" && (name[0] < '0' || name[0] > '9')
	return first && isReference("x"+name, maxRefLen, "_")
}

// isText accepts what is the same text in JSON, in YAML and on a command line.
func isText(s, extra string) bool {
	if len(s) > maxTextLen || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune(extra, r) })
}

// isCount accepts a decimal number above 0 without leading zeros, of at most digits digits.
func isCount(s string, digits int) bool {
	if s == "" || len(s) > digits || s[0] == '0' {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// show quotes what was given, without letting it fill a terminal.
func show(v any) string { return fmt.Sprintf("%.100q", fmt.Sprint(v)) }
