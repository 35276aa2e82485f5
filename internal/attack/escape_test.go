package attack_test

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

// leastAttempts is how many attempts there must be at least, so that a program which died in the middle is no success.
const leastAttempts = 250

// TestNothingGetsOut runs the hostile program as root and as a user, under each runtime.
func TestNothingGetsOut(t *testing.T) {
	runtimes(t, func(t *testing.T, name string) {
		for who, line := range map[string]string{"root": "USER 0:0", "a user": "USER 1000:1000"} {
			t.Run(who, func(t *testing.T) {
				s := newStage(t, name, "")
				image := s.image(line)
				beside := s.startNeighbour(image)
				targets := s.targets(image)
				canary := filepath.Join(t.TempDir(), "canary")
				s.write(canary, "untouched", 0o666)

				p := s.start(image, orders{
					Mode: "escape", Targets: targets, HostPids: []int{os.Getpid(), beside.pids()[0]}, HostFile: canary,
				}, events.Limits{})
				reports := p.await("escape")
				judge(t, name, reports)
				p.checkNoListener()
				p.checkLikelyVictim()
				beside.checkAlive()
				for address := range maps.Values(targets) {
					checkAnswers(t, address)
				}
				if text, err := os.ReadFile(canary); string(text) != "untouched" || err != nil {
					t.Errorf("the host's file is %q, %v", text, err)
				}
				p.stop()
				beside.checkAlive()
			})
		}
	})
}

// judge fails on everything that worked and is not explained.
func judge(t *testing.T, runtimeName string, reports []report) {
	t.Helper()
	tried, worked := map[string]int{}, map[string]int{}
	for _, r := range reports {
		if r.Kind == "done" {
			continue
		}
		tried[r.Kind]++
		if !r.Worked {
			continue
		}
		worked[r.Kind]++
		if why := excuse(runtimeName, r); why == "" {
			t.Errorf("%s: %q worked: %s", r.Kind, r.Attempt, r.Detail)
		}
	}
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(tried)) {
		total += tried[kind]
		t.Logf("%-22s %3d tried, %2d worked as explained", kind, tried[kind], worked[kind])
	}
	t.Logf("%-22s %3d", "in all", total)
	if total < leastAttempts {
		t.Errorf("only %d attempts were made, of at least %d", total, leastAttempts)
	}
}

// targets starts what must not be reached, checks that the host reaches it, and returns the addresses by a name of each.
func (s *stage) targets(image string) map[string]string {
	s.t.Helper()
	targets := map[string]string{}
	bus := natstest.Start(s.t)
	targets["the bus on the host's loopback"] = strings.TrimPrefix(bus.URL(), "nats://")
	gateway := s.gateway()
	public, err := natsserver.Start(natsserver.Options{Dir: s.t.TempDir(), Host: gateway, Port: -1})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(public.Shutdown)
	targets["the bus on Docker's bridge"] = strings.TrimPrefix(public.URL(), "nats://")
	for i, address := range hostAddresses(s.t) {
		targets[fmt.Sprintf("address %d of the host", i)] = s.listener(address)
	}
	targets["another container"] = s.bridged(image)
	for name, address := range targets {
		if !checkAnswers(s.t, address) {
			s.t.Fatalf("%s does not answer the host itself: the test is worth nothing", name)
		}
	}
	return targets
}

func checkAnswers(t *testing.T, address string) bool {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, dockertest.Patience)
	if err != nil {
		t.Errorf("%s does not answer: %v", address, err)
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(dockertest.Patience))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line == "" {
		t.Errorf("%s says %q, %v", address, line, err)
		return false
	}
	return true
}

// gateway returns the host's address on Docker's bridge: that of the interface, since a daemon that has just made it does not list it.
func (s *stage) gateway() string {
	s.t.Helper()
	var bridge struct{ Options map[string]string }
	s.docker.Get("/networks/bridge", &bridge)
	name := bridge.Options["com.docker.network.bridge.name"]
	link, err := net.InterfaceByName(name)
	if err != nil {
		s.t.Fatalf("Docker's bridge is %q: %v", name, err)
	}
	addresses, err := link.Addrs()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil {
			return ip.String()
		}
	}
	s.t.Fatalf("Docker's bridge %s has no address", name)
	return ""
}

// hostAddresses returns the addresses of the host's interfaces, loopback included.
func hostAddresses(t *testing.T) (list []string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP; !ip.IsLinkLocalUnicast() && len(list) < 8 {
			list = append(list, ip.String())
		}
	}
	return list
}

// listener answers on an address of the host until the test ends.
func (s *stage) listener(address string) string {
	s.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		s.t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintln(conn, "the host")
			_ = conn.Close()
		}
	})
	s.t.Cleanup(func() {
		_ = listener.Close()
		served.Wait()
	})
	return listener.Addr().String()
}

// bridged starts a container on Docker's bridge, which is not one of Hersh, and returns where it listens.
func (s *stage) bridged(image string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	s.write(filepath.Join(dir, "orders.json"), `{"Mode": "listen"}`, 0o644)
	if err := os.Chmod(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	var made struct{ ID string }
	s.docker.Post("/containers/create", map[string]any{
		"Image": image, "Labels": s.docker.Labels(), "HostConfig": map[string]any{"Binds": []string{dir + ":/state"}},
	}, &made)
	s.docker.Post("/containers/"+made.ID+"/start", nil, nil)
	var full struct {
		NetworkSettings struct{ IPAddress string }
	}
	s.docker.Get("/containers/"+made.ID+"/json", &full)
	address := net.JoinHostPort(full.NetworkSettings.IPAddress, "7070")
	dockertest.WaitFor(s.t, "the other container's answer", func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return address
}

// checkNoListener checks that no process of the container is in the host's network, and that Docker publishes no port of it:
// then whatever it listens on, nobody outside can connect to.
func (p *inmate) checkNoListener() {
	p.t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		p.t.Fatal(err)
	}
	pids := p.pids()
	if len(pids) == 0 {
		p.t.Error("the host has no process of the container: the check is worth nothing")
	}
	for _, pid := range pids {
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil && its == own {
			p.t.Errorf("process %d of the container is in the host's network", pid)
		}
	}
	var full struct {
		NetworkSettings struct{ Ports map[string][]any }
	}
	p.docker.Get("/containers/"+p.container+"/json", &full)
	for port, bindings := range full.NetworkSettings.Ports {
		if len(bindings) > 0 {
			p.t.Errorf("port %s is published", port)
		}
	}
}

// checkLikelyVictim checks that when the machine runs out of memory, the container is not spared.
func (p *inmate) checkLikelyVictim() {
	p.t.Helper()
	for _, pid := range p.pids() {
		score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if err == nil && strings.HasPrefix(string(score), "-") {
			p.t.Errorf("process %d of the container has an out-of-memory score of %s", pid, score)
		}
	}
}
