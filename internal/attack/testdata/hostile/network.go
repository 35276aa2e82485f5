package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const dialTime = 500 * time.Millisecond

func dial(network, address string) error { return dialFor(network, address, dialTime) }

func dialFor(network, address string, patience time.Duration) error {
	conn, err := net.DialTimeout(network, address, patience)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func socketAttempts() []attempt {
	var all []attempt
	for _, s := range []struct {
		name                string
		family, kind, proto int
	}{
		{"raw ICMP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		{"raw TCP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP},
		{"raw IP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW},
		{"raw ICMPv6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		{"packet", unix.AF_PACKET, unix.SOCK_RAW, 0x0300},
		{"cooked packet", unix.AF_PACKET, unix.SOCK_DGRAM, 0x0300},
		{"virtual machine", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"kernel cryptography", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"Bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1},
		{"CAN", unix.AF_CAN, unix.SOCK_RAW, 1},
		{"express data path", unix.AF_XDP, unix.SOCK_RAW, 0},
		{"key management", unix.AF_KEY, unix.SOCK_RAW, 2},
		{"netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"audit", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT},
	} {
		all = append(all, does("sockets", "open a socket: "+s.name, func() error { return newFD(unix.Socket(s.family, s.kind, s.proto)) }))
	}
	return append(all,
		does("sockets", "configure a network tunnel", openTunnel),
		does("sockets", "give itself an address", addAddress),
		does("sockets", "an interface beside loopback", func() error {
			list, err := net.Interfaces()
			for _, i := range list {
				if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 {
					return nil
				}
			}
			return errors.Join(err, fmt.Errorf("%d interfaces", len(list)))
		}),
		does("sockets", "reach a virtual machine's host", func() error {
			fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: 1024})
		}),
	)
}

// openTunnel asks for a network interface whose packets are this program's to read and write.
func openTunnel() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("tun9")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
}

// addAddress asks the kernel for 172.17.0.99 on the loopback interface.
func addAddress() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err == nil {
		err = req.SetInet4Addr([]byte{172, 17, 0, 99})
	}
	if err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFADDR, req)
}

func reachAttempts(o orders) []attempt {
	var all []attempt
	for _, name := range slices.Sorted(maps.Keys(o.Targets)) {
		all = append(all,
			does("reaching others", "connect to "+name, func() error { return dial("tcp", o.Targets[name]) }),
			does("reaching others", "send a packet to "+name, func() error { return sendTo(o.Targets[name]) }),
		)
	}
	return append(all,
		does("reaching others", "send a packet to everybody", func() error { return sendTo("255.255.255.255:4222") }),
		does("reaching others", "send a packet to a group", func() error { return sendTo("224.0.0.1:4222") }),
		does("reaching others", "look up a name", func() error {
			_, err := net.LookupHost("localhost.localdomain.example.com")
			return err
		}),
		does("reaching others", "reach a service that the host offers on an abstract socket", func() error { return dial("unix", "@/tmp/.X11-unix/X0") }),
	)
}

// sendTo says what the kernel said: whether a packet arrives nobody tells, but without a route it does not leave. A packet
// to this container's own loopback stays here.
func sendTo(address string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if ip := conn.RemoteAddr().(*net.UDPAddr).IP; ip.IsLoopback() {
		return errors.New("it stays on the loopback of this container")
	}
	_, err = conn.Write([]byte("x"))
	return err
}

// listen is the neighbour: it answers everybody who connects, and says that it lives.
func listen() {
	listener, err := net.Listen("tcp", ":7070")
	if err != nil {
		say(report{Kind: "neighbour", Attempt: "listen", Detail: err.Error()})
	}
	done("listen")
	for {
		conn, err := listener.Accept()
		if err != nil {
			continue
		}
		_, _ = fmt.Fprintln(conn, "alive")
		_ = conn.Close()
	}
}
