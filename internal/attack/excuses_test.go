package attack_test

import (
	"slices"
	"strings"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
)

// allowed is what a program may do under a runtime, and why that is no way out. Each line was looked at.
type allowed struct {
	runtime  string // "" is any.
	why      string
	attempts []string
}

func excuses() []allowed {
	return []allowed{
		{"", "a file system in memory of the container's own, counted in its memory limit (see TestMemoryFilesCount)", []string{
			"write /dev/x", "write /dev/shm/x",
		}},
		{compose.RuntimeRunsc, "gVisor has devices of its own of these names; the host's are not behind them", []string{
			"open /dev/fuse", "open /dev/net/tun", "make and open a device of null in /dev", "make and open a device of null in /dev/shm",
			"make and open a device of FUSE in /dev", "make and open a device of FUSE in /dev/shm",
			"make and open a device of a network tunnel in /dev", "make and open a device of a network tunnel in /dev/shm",
		}},
		{compose.RuntimeRunsc, "namespaces of gVisor's kernel, which nobody else is in; what they give is tried in them", []string{
			"leave its mount namespace", "leave its cgroup namespace", "leave its time namespace", "a user namespace of its own",
		}},
		{compose.RuntimeRunsc, "gVisor says yes and keeps it to itself: the host's kernel never hears of it (see checkLikelyVictim)", []string{
			"write /proc/self/oom_score_adj", "write /proc/1/oom_score_adj", "run with a better priority", "huge pages", "an io_uring",
		}},
		{compose.RuntimeRunsc, "gVisor's own log, with jokes in it", []string{"read the kernel's log"}},
		{compose.RuntimeRunsc, "a root of the program's own user namespace in gVisor's kernel, where there is no network but loopback", inside(
			"write /dev/x", "write /dev/shm/x", "change the root", "open a socket: raw ICMP", "open a socket: raw TCP", "open a socket: raw IP",
			"open a socket: raw ICMPv6", "open a socket: packet", "open a socket: cooked packet", "take capabilities",
			"have a capability in the bounding set", "leave its mount namespace", "leave its network namespace", "leave its UTS namespace",
			"leave its IPC namespace", "leave its cgroup namespace", "leave its time namespace", "an io_uring", "run with a better priority",
			"huge pages", "read the kernel's log",
		)},
		{compose.RuntimeRunc, "such a socket can be opened by anybody; each message in it needs a capability", []string{
			"open a socket: netfilter", "open a socket: audit",
		}},
		{compose.RuntimeRunc, "Docker before 23.0 lets it be opened; nobody answers here, but a hypervisor may (docs/security.md)", []string{
			"open a socket: virtual machine",
		}},
		{compose.RuntimeRunc, "more of the kernel than a program needs: Docker before 25.0 lets it through (docs/security.md)", []string{"an io_uring"}},
		{compose.RuntimeRunc, "its own segments only; Docker's profile lets it through for old programs", []string{"lay out its own segments"}},
		{compose.RuntimeRunc, "what the machine is and how much it has in use, which Docker does not mask (docs/security.md)", []string{
			"read /proc/key-users", "read /proc/vmallocinfo", "read /proc/slabinfo", "read /proc/kpagecount", "read /proc/bus/pci",
		}},
		{compose.RuntimeRunc, "where the folder of /state is on the host, but not a way there", []string{"learn a path of the host"}},
	}
}

// insideUserNamespace stands before the name of an attempt that was made again in a user namespace.
const insideUserNamespace = "in a user namespace: "

func inside(attempts ...string) []string {
	for i := range attempts {
		attempts[i] = insideUserNamespace + attempts[i]
	}
	return attempts
}

// excuse says why something may work, or "".
func excuse(runtimeName string, r report) string {
	for _, e := range excuses() {
		if (e.runtime == "" || e.runtime == runtimeName) && slices.Contains(e.attempts, r.Attempt) {
			return strings.TrimSpace(e.why)
		}
	}
	return ""
}
