package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// fileAttempts write where only /state may be written, and open what is of the host.
func fileAttempts(o orders) []attempt {
	var all []attempt
	for _, path := range []string{
		"/x", "/hostile", "/bin/x", "/etc/passwd", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/.dockerenv",
		"/dev/x", "/dev/shm/x", "/dev/mqueue/x", "/dev/pts/x", "/proc/x", "/sys/x", "/state/../x", "/proc/1/root/x", "/proc/self/cwd/../x",
	} {
		all = append(all, does("write outside /state", "write "+path, func() error { return overwrite(path) }))
	}
	for _, path := range []string{"/", "/etc", "/proc", "/state/.."} {
		all = append(all, does("write outside /state", "make a folder in "+path, func() error { return os.Mkdir(path+"/made", 0o755) }))
	}
	all = append(all,
		does("write outside /state", "remove its own program", func() error { return os.Remove("/hostile") }),
		does("write outside /state", "rename its own program", func() error { return os.Rename("/hostile", "/hostile2") }),
		does("write outside /state", "move /state away", func() error { return os.Rename("/state", "/state2") }),
		does("write outside /state", "link the root into /state and write", func() error {
			_ = os.Symlink("/", "/state/root")
			return overwrite("/state/root/x")
		}),
		does("host files", "read a file of the host", func() error { return read(o.HostFile) }),
		does("host files", "write a file of the host", func() error { return overwrite(o.HostFile) }),
		does("host files", "read a file of the host through a link", func() error {
			_ = os.Symlink(o.HostFile, "/state/canary")
			return read("/state/canary")
		}),
		does("host files", "open by handle", openByHandle),
	)
	for _, path := range []string{
		"/etc/shadow", "/root/.ssh", "/var/lib/docker", "/proc/1/root/etc/shadow", "/state/../etc/shadow", "/state/../../../../etc/shadow",
		"/host", "/mnt", "/run/secrets", "/var/run/secrets",
	} {
		all = append(all, does("host files", "read "+path, func() error { return read(path) }))
	}
	for _, path := range []string{
		"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "@/containerd-shim", "/var/run/dbus/system_bus_socket",
		"/run/systemd/private",
	} {
		all = append(all, does("the Docker socket", "connect to "+path, func() error { return dial("unix", path) }))
	}
	return all
}

// overwrite creates or changes a file.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("hostile was here\n")
	return err
}

// read fails when there is nothing to be read as well.
func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		names, err := f.Readdirnames(1)
		if err != nil || len(names) == 0 {
			return fmt.Errorf("an empty folder (%v)", err)
		}
		return nil
	}
	n, err := f.Read(make([]byte, 64))
	if n == 0 {
		return fmt.Errorf("an empty file (%v)", err)
	}
	return nil
}

// openByHandle is how root came out of early containers: file handles know no mount.
func openByHandle() error {
	handle := unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0})
	root, err := unix.Open("/state", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	fd, err := unix.OpenByHandleAt(root, handle, unix.O_RDONLY)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func mountAttempts() []attempt {
	mount := func(name, source, target, kind string, flags uintptr, data string) attempt {
		return does("mounts", name, func() error { return unix.Mount(source, target, kind, flags, data) })
	}
	return []attempt{
		mount("remount the root writable", "", "/", "", unix.MS_REMOUNT, ""),
		mount("remount the root writable, bound", "", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""),
		mount("remount /proc/sys writable", "", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, ""),
		mount("mount proc", "proc", "/state", "proc", 0, ""),
		mount("mount sysfs", "sysfs", "/state", "sysfs", 0, ""),
		mount("mount tmpfs", "tmpfs", "/state", "tmpfs", 0, ""),
		mount("mount cgroup", "cgroup", "/state", "cgroup", 0, "memory"),
		mount("mount debugfs", "debugfs", "/state", "debugfs", 0, ""),
		mount("mount devtmpfs", "devtmpfs", "/state", "devtmpfs", 0, ""),
		mount("mount an overlay", "overlay", "/state", "overlay", 0, "lowerdir=/,upperdir=/state,workdir=/state"),
		mount("mount a disk", "/dev/vda", "/state", "ext4", 0, ""),
		mount("bind the root", "/", "/state", "", unix.MS_BIND, ""),
		mount("make mounts shared", "", "/", "", unix.MS_SHARED|unix.MS_REC, ""),
		does("mounts", "unmount /state", func() error { return unix.Unmount("/state", unix.MNT_DETACH) }),
		does("mounts", "unmount /proc/kcore", func() error { return unix.Unmount("/proc/kcore", unix.MNT_DETACH) }),
		does("mounts", "pivot the root", func() error { return unix.PivotRoot("/state", "/state") }),
		does("mounts", "change the root", func() error { return unix.Chroot("/state") }),
		does("mounts", "open a file system", func() error { return newFD(unix.Fsopen("tmpfs", 0)) }),
		does("mounts", "copy a mount", func() error {
			return newFD(unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE))
		}),
	}
}

// newFD closes what was opened.
func newFD(fd int, err error) error {
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func deviceAttempts() []attempt {
	var all []attempt
	for name, d := range map[string]struct{ mode, major, minor uint32 }{
		"memory": {unix.S_IFCHR, 1, 1}, "ports": {unix.S_IFCHR, 1, 4}, "kernel log": {unix.S_IFCHR, 1, 11}, "the disk": {unix.S_IFBLK, 254, 0},
		"a SCSI disk": {unix.S_IFBLK, 8, 0}, "a loop device": {unix.S_IFBLK, 7, 0}, "FUSE": {unix.S_IFCHR, 10, 229}, "KVM": {unix.S_IFCHR, 10, 232},
		"a network tunnel": {unix.S_IFCHR, 10, 200}, "null": {unix.S_IFCHR, 1, 3},
	} {
		for _, dir := range []string{"/state", "/dev", "/dev/shm"} {
			path := dir + "/device-" + strings.ReplaceAll(name, " ", "-")
			all = append(all, does("devices", "make and open a device of "+name+" in "+dir, func() error {
				if err := unix.Mknod(path, d.mode|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
					return err
				}
				return newFD(unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0))
			}))
		}
	}
	for _, path := range []string{
		"/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/loop0", "/dev/loop-control",
		"/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vsock", "/dev/tty0", "/dev/console", "/dev/snapshot", "/dev/cpu/0/msr",
		"/dev/dri/card0", "/dev/input/event0", "/dev/mapper/control", "/dev/disk",
	} {
		all = append(all, does("devices", "open "+path, func() error { return newFD(unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)) }))
	}
	return all
}

// readAttempts read what tells about the host and is none of a program's business.
func readAttempts() []attempt {
	var all []attempt
	for _, path := range []string{
		"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/sched_debug", "/proc/acpi", "/proc/scsi",
		"/proc/latency_stats", "/proc/timer_stats", "/sys/firmware", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing",
		"/proc/vmallocinfo", "/proc/slabinfo", "/proc/kpagecount", "/sys/fs/bpf", "/proc/bus/pci",
	} {
		all = append(all, does("reading the kernel", "read "+path, func() error { return read(path) }))
	}
	all = append(all,
		does("reading the kernel", "read the kernel's log", func() error {
			n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 1024))
			if err == nil && n == 0 {
				return errors.New("it is empty")
			}
			return err
		}),
		does("reading the kernel", "read the kernel's addresses", kernelAddresses),
		attempt{"reading the kernel", "learn a path of the host", func() (bool, string) {
			data, err := os.ReadFile("/proc/self/mountinfo")
			for line := range strings.Lines(string(data)) {
				if f := strings.Fields(line); len(f) > 4 && f[4] == "/state" && f[3] != "/" {
					return true, f[3]
				}
			}
			return false, fmt.Sprint(err)
		}},
	)
	return all
}

func kernelAddresses() error {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return err
	}
	defer f.Close()
	line := make([]byte, 16)
	if _, err := f.Read(line); err != nil {
		return err
	}
	if string(line) == "0000000000000000" {
		return errors.New("all are zero")
	}
	return nil
}
