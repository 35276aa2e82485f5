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

	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/disk"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/prochost"
)

const (
	supervisors = 3
	executors   = 3
)

// service is a supervisor or an executor, which reaches the cluster through proxies of its own.
type service struct {
	Process
	proxies []*Proxy
	store   box.Store // Of an executor.
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
		"github.com/nats-io/nats-server/v2", module + "/cmd/supervisor",
		module + "/internal/chaos/executor", module + "/internal/chaos/container",
	} {
		path, err := Build(ctx, dir, pkg)
		if err != nil {
			return nil, err
		}
		bins[filepath.Base(strings.TrimSuffix(pkg, "/v2"))] = path
	}
	s := &System{hostTTL: o.HostTTL}
	var err error
	if s.cluster, err = StartCluster(bins["nats-server"], dir, ClusterOptions{Servers: servers, Sync: syncAlways, Disks: o.Disks, Kind: disk.Torn, Died: s.note}); err != nil {
		return nil, err
	}
	for i := range supervisors {
		name := fmt.Sprintf("supervisor-%d", i+1)
		err = errors.Join(err, s.add(&s.supervisors, dir, name, bins["supervisor"], box.Store{}, "--http", "", "--name", name,
			"--replicas", strconv.Itoa(servers), "--host-ttl", o.HostTTL.String()))
	}
	for i := range executors {
		host := fmt.Sprintf("host-%d", i+1)
		folder := filepath.Join(dir, host)
		err = errors.Join(err, s.add(&s.executors, dir, host, bins["executor"], prochost.Store(folder, bins["container"]),
			"--host-id", host, "--dir", folder, "--container", bins["container"], "--seed", strconv.FormatUint(o.Seed, 10)))
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *System) add(list *[]*service, dir, name, path string, store box.Store, args ...string) error {
	svc := &service{store: store}
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
		list, _ := e.store.List() // What is not listed ends when its folder is removed.
		for _, c := range list {
			_ = e.store.Wipe(c)
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
