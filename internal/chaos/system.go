package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/internal/chaos/disk"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/prochost"
)

const (
	supervisors = 3
	executors   = 3 // Whose containers are processes.
	natsServer  = "github.com/nats-io/nats-server/v2"
)

// service is a supervisor or an executor, which reaches the cluster through proxies of its own.
type service struct {
	Process
	proxies []*Proxy
	host    host // Of an executor.
}

// System is all that runs.
type System struct {
	cluster     *Cluster
	supervisors []*service
	executors   []*service
	hostTTL     time.Duration

	mu   sync.Mutex
	died []error // Processes that ended by themselves.
}

// startSystem builds and starts everything.
func startSystem(ctx context.Context, o Options) (*System, error) {
	dir := o.Dir
	bins := map[string]string{}
	for _, pkg := range []string{
		natsServer, module + "/cmd/supervisor",
		module + "/cmd/executor", module + "/internal/chaos/executor", module + "/internal/chaos/container",
	} {
		path, err := Build(ctx, dir, pkg)
		if err != nil {
			return nil, err
		}
		bins[strings.TrimPrefix(pkg, module+"/")] = path
	}
	s := &System{hostTTL: o.HostTTL}
	var err error
	if s.cluster, err = StartCluster(bins[natsServer], dir, ClusterOptions{Servers: servers, Sync: syncAlways, Disks: o.Disks, Kind: disk.Torn, Died: s.note}); err != nil {
		return nil, err
	}
	for i := range supervisors {
		name := fmt.Sprintf("supervisor-%d", i+1)
		err = errors.Join(err, s.add(&s.supervisors, dir, name, bins["cmd/supervisor"], nil, "--http", "", "--name", name,
			"--replicas", strconv.Itoa(servers), "--host-ttl", o.HostTTL.String()))
	}
	builds := "4"
	if o.Docker {
		builds = "1" // So that Docker, which is slower, gets its part.
	}
	for i := range executors {
		host := fmt.Sprintf("host-%d", i+1)
		folder := filepath.Join(dir, host)
		err = errors.Join(err, s.add(&s.executors, dir, host, bins["internal/chaos/executor"], boxes{prochost.Store(folder, bins["internal/chaos/container"])},
			"--host-id", host, "--dir", folder, "--container", bins["internal/chaos/container"], "--seed", strconv.FormatUint(o.Seed, 10), "--build-slots", builds))
	}
	if o.Docker {
		err = errors.Join(err, s.addDocker(o, bins["cmd/executor"]))
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *System) add(list *[]*service, dir, name, path string, containers host, args ...string) error {
	svc := &service{host: containers}
	*list = append(*list, svc)
	var urls []string
	for _, server := range s.cluster.Servers {
		p, err := NewProxy(server.Addr)
		if err != nil {
			return err
		}
		svc.proxies = append(svc.proxies, p)
		urls = append(urls, "nats://"+p.Addr())
	}
	args = append(args, "--server", strings.Join(urls, ","))
	svc.Process = Process{Name: name, Path: path, Args: args, Log: filepath.Join(dir, name+".log"), Died: s.note}
	return svc.Start()
}

func (s *System) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.died = append(s.died, err)
	fmt.Fprintln(os.Stderr, err)
}

func (s *System) deaths() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]error(nil), s.died...)
}

func (s *System) services() []*service {
	return append(append([]*service(nil), s.supervisors...), s.executors...)
}

// Stop kills everything, the containers too.
func (s *System) Stop() {
	for _, svc := range s.services() {
		svc.Kill()
		for _, p := range svc.proxies {
			p.Close()
		}
	}
	for _, e := range s.executors {
		if d, ok := e.host.(dockerHost); ok {
			if err := d.removeAll(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			continue
		}
		list, _ := e.host.list() // What is not listed ends when its folder is removed.
		for _, c := range list {
			_ = e.host.wipe(c)
		}
	}
	if err := s.cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (s *service) cut() {
	for _, p := range s.proxies {
		p.Cut()
	}
}

func (s *service) mend() {
	for _, p := range s.proxies {
		p.Mend()
	}
}
