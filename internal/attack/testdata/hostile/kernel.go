package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelAttempts make system calls that change the machine, or that have been ways into the kernel.
func kernelAttempts() []attempt {
	raw := func(name string, nr uintptr, args ...uintptr) attempt {
		return does("the kernel", name, func() error { return number(nr, args...) })
	}
	bytes := make([]byte, 256)
	buffer := uintptr(unsafe.Pointer(&bytes[0]))
	all := []attempt{
		raw("load a kernel for later", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0),
		raw("load a kernel from a file", unix.SYS_KEXEC_FILE_LOAD, ^uintptr(0), ^uintptr(0), 0, 0, 4),
		raw("change what Ctrl-Alt-Del does", unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_OFF),
		raw("load a module", unix.SYS_INIT_MODULE, buffer, 256, buffer),
		raw("load a module from a file", unix.SYS_FINIT_MODULE, 0, buffer, 0),
		raw("remove a module", unix.SYS_DELETE_MODULE, buffer, unix.O_NONBLOCK),
		does("the kernel", "make a BPF map", func() error {
			attr := [18]uint32{2, 4, 8, 1} // An array of one value of 8 bytes.
			return number(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr[0])), unsafe.Sizeof(attr))
		}),
		does("the kernel", "watch performance events", func() error {
			attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: unix.PERF_ATTR_SIZE_VER0}
			return newFD(unix.PerfEventOpen(&attr, -1, 0, -1, 0))
		}),
		does("the kernel", "an io_uring", func() error {
			params := [120]byte{}
			return number(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params[0])))
		}),
		raw("handle page faults itself", unix.SYS_USERFAULTFD, 0),
		raw("a key in a keyring", unix.SYS_ADD_KEY, stringPointer("user"), stringPointer("hersh"), buffer, 8, ^uintptr(3)),
		raw("look at a keyring", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(3), 1),
		raw("join a session's keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0),
		raw("ask for a key", unix.SYS_REQUEST_KEY, stringPointer("user"), stringPointer("hersh"), 0, 0),
		raw("turn on swap", unix.SYS_SWAPON, stringPointer("/state/swap"), 0),
		raw("turn off swap", unix.SYS_SWAPOFF, stringPointer("/state/swap")),
		raw("write process accounts", unix.SYS_ACCT, stringPointer("/state/accounts")),
		does("the kernel", "set the clock", func() error {
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
				return err
			}
			return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
		}),
		does("the kernel", "adjust the clock", func() error {
			_, err := unix.Adjtimex(&unix.Timex{Modes: 0x2}) // Frequency.
			return err
		}),
		does("the kernel", "set the host name", func() error { return unix.Sethostname([]byte("hostile")) }),
		does("the kernel", "set the domain name", func() error { return unix.Setdomainname([]byte("hostile")) }),
		raw("reach I/O ports", unix.SYS_IOPL, 3),
		raw("reach one I/O port", unix.SYS_IOPERM, 0x80, 1, 1),
		raw("hang up the terminal", unix.SYS_VHANGUP),
		raw("set quotas", unix.SYS_QUOTACTL, 0x800007<<8, 0, 0, buffer),
		raw("watch all files", unix.SYS_FANOTIFY_INIT, unix.FAN_CLASS_CONTENT, 0),
		raw("load a shared library, as of old", unix.SYS_USELIB, stringPointer("/state/x")),
		raw("lay out its own segments", unix.SYS_MODIFY_LDT, 0, buffer, 16),
		raw("clear the kernel's log", unix.SYS_SYSLOG, unix.SYSLOG_ACTION_CLEAR, 0, 0),
		raw("move pages of all processes", unix.SYS_MIGRATE_PAGES, 1, 8, buffer, buffer),
		raw("another personality", unix.SYS_PERSONALITY, 0x0040000), // ADDR_NO_RANDOMIZE.
		does("the kernel", "run before all others", func() error {
			param := int32(1)
			return number(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
		}),
		does("the kernel", "run with a better priority", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }),
		raw("do I/O before all others", unix.SYS_IOPRIO_SET, 1, 0, 1<<13),
		does("the kernel", "lock much memory", func() error {
			data, err := unix.Mmap(-1, 0, 32<<20, unix.PROT_READ, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Munmap(data) }()
			return unix.Mlock(data)
		}),
		does("the kernel", "raise its limit of open files", func() error {
			var limit unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				return err
			}
			limit.Max++
			return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		}),
		does("the kernel", "huge pages", func() error {
			data, err := unix.Mmap(-1, 0, 2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_HUGETLB)
			if err == nil {
				_ = unix.Munmap(data)
			}
			return err
		}),
		does("the kernel", "map page 0", func() error {
			return number(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED|unix.MAP_ANON|unix.MAP_PRIVATE, ^uintptr(0), 0)
		}),
	}
	for i := range all { // The buffer must live as long as the attempts.
		try := all[i].try
		all[i].try = func() (bool, string) {
			worked, detail := try()
			_ = bytes[0]
			return worked, detail
		}
	}
	return all
}

// stringPointer returns the address of a C string that stays where it is: nothing frees a global.
func stringPointer(s string) uintptr {
	p, _ := unix.BytePtrFromString(s)
	kept = append(kept, p)
	return uintptr(unsafe.Pointer(p))
}

var kept []*byte

// procAttempts write to files of the kernel.
func procAttempts() []attempt {
	var all []attempt
	for path, value := range map[string]string{
		"/proc/sys/kernel/core_pattern":               "|/state/x",
		"/proc/sys/kernel/modprobe":                   "/state/x",
		"/proc/sys/kernel/hostname":                   "hostile",
		"/proc/sys/kernel/sysrq":                      "1",
		"/proc/sys/kernel/panic":                      "0",
		"/proc/sys/kernel/ns_last_pid":                "1",
		"/proc/sys/vm/overcommit_memory":              "0",
		"/proc/sys/vm/drop_caches":                    "1",
		"/proc/sys/fs/file-max":                       "1000",
		"/proc/sys/fs/binfmt_misc/register":           ":x:M::x::/state/x:",
		"/proc/sys/net/ipv4/ip_forward":               "1",
		"/proc/sys/net/core/somaxconn":                "4096",
		"/proc/sysrq-trigger":                         "h",
		"/proc/irq/0/smp_affinity":                    "1",
		"/proc/bus/x":                                 "x",
		"/proc/fs/x":                                  "x",
		"/proc/1/mem":                                 "x",
		"/proc/self/oom_score_adj":                    "-1000",
		"/proc/1/oom_score_adj":                       "-1000",
		"/proc/self/uid_map":                          "0 0 1",
		"/proc/self/gid_map":                          "0 0 1",
		"/proc/self/loginuid":                         "0",
		"/proc/self/timerslack_ns":                    "1",
		"/sys/kernel/uevent_helper":                   "/state/x",
		"/sys/kernel/mm/transparent_hugepage/enabled": "always",
		"/sys/kernel/profiling":                       "1",
		"/sys/power/state":                            "mem",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes": "-1",
		"/sys/fs/cgroup/memory/memory.oom_control":    "1",
		"/sys/fs/cgroup/pids/pids.max":                "max",
		"/sys/fs/cgroup/cpu/cpu.cfs_quota_us":         "-1",
		"/sys/fs/cgroup/devices/devices.allow":        "a",
		"/sys/fs/cgroup/memory/release_agent":         "/state/x",
		"/sys/fs/cgroup/cgroup.procs":                 "1",
		"/sys/fs/cgroup/memory.max":                   "max",
		"/sys/fs/cgroup/pids.max":                     "max",
		"/sys/module/kvm/parameters/halt_poll_ns":     "1",
		"/sys/devices/system/cpu/cpu1/online":         "1",
		"/sys/class/net/lo/mtu":                       "1000",
		"/sys/block/vda/queue/scheduler":              "none",
		"/sys/kernel/debug/tracing/tracing_on":        "1",
		"/sys/firmware/efi/efivars/x":                 "x",
		"/dev/cpu_dma_latency":                        "0",
		"/dev/watchdog":                               "V",
	} {
		all = append(all, does("files of the kernel", "write "+path, func() error { return set(path, value) }))
	}
	return append(all, does("files of the kernel", "make a cgroup of its own", func() error {
		var errs []error
		for _, dir := range []string{"/sys/fs/cgroup/x", "/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/pids/x"} {
			err := os.Mkdir(dir, 0o755)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}))
}

func set(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := f.WriteString(value); err != nil || n == 0 {
		return fmt.Errorf("%d bytes, %w", n, err)
	}
	return nil
}
