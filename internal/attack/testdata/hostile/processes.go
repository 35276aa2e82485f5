package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processAttempts touch processes that are not of this container. In a PID namespace of its own, their numbers mean nobody.
func processAttempts(o orders) []attempt {
	all := []attempt{
		{"other processes", "see a process that is not its own", foreignProcess},
	}
	for _, pid := range o.HostPids {
		name := "process " + strconv.Itoa(pid) + " of the host"
		all = append(all,
			does("other processes", "signal "+name, func() error { return unix.Kill(pid, 0) }),
			does("other processes", "trace "+name, func() error { return unix.PtraceAttach(pid) }),
			does("other processes", "seize "+name, func() error { return unix.PtraceSeize(pid) }),
			does("other processes", "read the memory of "+name, func() error { return readMemory(pid) }),
			does("other processes", "write the memory of "+name, func() error { return writeMemory(pid) }),
			does("other processes", "open the memory of "+name, func() error { return overwrite(fmt.Sprintf("/proc/%d/mem", pid)) }),
			does("other processes", "read the environment of "+name, func() error { return read(fmt.Sprintf("/proc/%d/environ", pid)) }),
			does("other processes", "enter the root of "+name, func() error { return read(fmt.Sprintf("/proc/%d/root/", pid)) }),
			does("other processes", "hold "+name, func() error { return newFD(unix.PidfdOpen(pid, 0)) }),
			does("other processes", "limit "+name, func() error { return unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &unix.Rlimit{}) }),
			does("other processes", "slow down "+name, func() error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 19) }),
			does("other processes", "compare a file with one of "+name, func() error {
				return number(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), 0, 0, 0)
			}),
		)
	}
	return all
}

// foreignProcess looks for a process whose program is another.
func foreignProcess() (bool, string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false, err.Error()
	}
	seen := 0
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		seen++
		line, _ := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if first, _, _ := bytes.Cut(line, []byte{0}); len(first) > 0 && !strings.HasPrefix(string(first), "/hostile") && string(first) != "/proc/self/exe" {
			return true, string(first)
		}
	}
	return false, fmt.Sprintf("%d processes, all its own", seen)
}

func readMemory(pid int) error {
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	return err
}

func writeMemory(pid int) error {
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	_, err := unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	return err
}

// number makes a system call by its number.
func number(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// identityAttempts become somebody else, or somebody with more rights.
func identityAttempts() []attempt {
	other := 4242
	raw := func(nr uintptr, args ...uintptr) func() error {
		return func() error { return number(nr, args...) }
	}
	return []attempt{
		does("identity", "become another user", raw(unix.SYS_SETUID, uintptr(other))),
		does("identity", "become another group", raw(unix.SYS_SETGID, uintptr(other))),
		does("identity", "become another user, saved", raw(unix.SYS_SETRESUID, uintptr(other), uintptr(other), uintptr(other))),
		does("identity", "join a group", func() error {
			groups := []uint32{uint32(other)}
			return number(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups[0])))
		}),
		does("identity", "become root", func() error {
			if os.Geteuid() == 0 {
				return fmt.Errorf("it is the container's root already, without capabilities")
			}
			return number(unix.SYS_SETUID, 0)
		}),
		does("identity", "take capabilities", takeCapabilities),
		does("identity", "take an ambient capability", func() error {
			return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
		}),
		does("identity", "have a capability in the bounding set", func() error {
			for c := uintptr(0); c < 41; c++ {
				if set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && set == 1 {
					return nil
				}
			}
			return fmt.Errorf("there is none")
		}),
		does("identity", "allow new privileges again", func() error {
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil {
				return err
			}
			if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); set != 0 || err != nil {
				return fmt.Errorf("they are still forbidden (%v)", err)
			}
			return nil
		}),
		{"identity", "gain by a setuid program", setuidProgram},
		does("identity", "give a file away", func() error {
			path := "/state/given"
			_ = overwrite(path)
			return os.Chown(path, other, other)
		}),
		does("identity", "give a file capabilities", func() error {
			path := "/state/capable"
			_ = overwrite(path)
			return unix.Setxattr(path, "security.capability", []byte("\x01\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"), 0)
		}),
	}
}

func takeCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0)}, {Effective: 0x1ff, Permitted: 0x1ff}}
	return unix.Capset(&header, &all[0])
}

// makeSetuid marks a program as one that runs as its owner, root, whoever starts it. It is called in a build.
func makeSetuid(path string) error { return os.Chmod(path, 0o755|os.ModeSetuid) }

// leaveSetuid leaves a copy of this program in /state that, on the host, is root's and runs as root.
func leaveSetuid() {
	data, err := os.ReadFile("/hostile")
	if err == nil {
		err = os.WriteFile("/state/rootshell", data, 0o755)
	}
	if err == nil {
		err = makeSetuid("/state/rootshell")
	}
	worked, detail := result(err)
	say(report{Kind: "setuid", Attempt: "leave a setuid program in /state", Worked: worked, Detail: detail})
}

// setuidProgram starts this program through its setuid copy in the image.
func setuidProgram() (bool, string) {
	out, err := exec.Command("/hostile-setuid", "whoami").Output()
	if err != nil {
		return false, err.Error()
	}
	if os.Geteuid() == 0 {
		return false, "it is the container's root already, without capabilities"
	}
	return string(out) == "0", "it ran as " + string(out)
}

func namespaceAttempts() []attempt {
	var all []attempt
	for _, ns := range []struct {
		name string
		flag int
	}{
		{"mount", unix.CLONE_NEWNS}, {"PID", unix.CLONE_NEWPID}, {"network", unix.CLONE_NEWNET}, {"UTS", unix.CLONE_NEWUTS},
		{"IPC", unix.CLONE_NEWIPC}, {"cgroup", unix.CLONE_NEWCGROUP}, {"time", unix.CLONE_NEWTIME},
	} {
		all = append(all, does("namespaces", "leave its "+ns.name+" namespace", func() error { return unix.Unshare(ns.flag) }))
	}
	all = append(all, does("namespaces", "a user namespace of its own", func() error { return userNamespace("whoami").Run() }))
	for _, name := range []string{"mnt", "pid", "net", "user", "ipc", "uts", "cgroup"} {
		all = append(all, does("namespaces", "enter the first process's "+name+" namespace", func() error {
			fd, err := unix.Open("/proc/1/ns/"+name, unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Setns(fd, 0)
		}))
	}
	return all
}

// userNamespace starts this program in a user namespace, where it is root with every capability over what is in there.
func userNamespace(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return cmd
}

// escapeInside tries everything again where a user namespace gives it every capability, if it does.
func escapeInside(o orders) {
	text, _ := json.Marshal(o)
	cmd := userNamespace("inside", string(text))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		say(report{Kind: "namespaces", Attempt: "everything again in a user namespace", Detail: err.Error()})
	}
}

// takeThreads makes threads that wait until no more are to be had. The Go runtime gives up for good then.
func takeThreads(most int64) {
	for i := range most {
		ready := make(chan bool)
		go func() {
			runtime.LockOSThread()
			ready <- true
			var set unix.FdSet
			_, _ = unix.Select(0, &set, nil, nil, nil) // For ever, on this thread.
		}()
		<-ready
		if i%16 == 0 {
			say(report{Kind: "count", Attempt: "threads", Count: i + 1})
		}
	}
	done("threads")
}

// takeProcesses starts processes that wait, until no more are to be had.
func takeProcesses(most int64) {
	made := int64(0)
	reason := "as many as it wanted"
	for made < most {
		cmd := exec.Command("/proc/self/exe", "sit")
		if err := cmd.Start(); err != nil {
			reason = err.Error()
			break
		}
		made++
		say(report{Kind: "count", Attempt: "processes", Count: made})
	}
	say(report{Kind: "done", Attempt: "processes", Count: made, Detail: reason})
}
