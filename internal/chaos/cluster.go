package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/internal/chaos/disk"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	servers     = 3 // Of a cluster that replicates.
	healthEvery = 100 * time.Millisecond
	syncAlways  = "always"
)

// ClusterOptions say what servers there are and what they stand on.
type ClusterOptions struct {
	Servers int         // 1, or 3 that replicate.
	Sync    string      // Their sync_interval.
	Disks   bool        // Each has a disk of its own, of package disk, instead of a folder of this machine's.
	Kind    disk.Kind   // Of these disks.
	Died    func(error) // Hears of a server that ends by itself.
}

// Cluster is some NATS servers, each a process with a folder of its own. Each route from one to another goes through a proxy.
type Cluster struct {
	Servers []*Server
	links   map[link]*Proxy
	nowhere *Proxy // What servers tell each other as their address: it refuses, so that no route goes round its proxy.
}

// link is the way from one server, by its index, to another.
type link struct{ from, to int }

// Server is one of them.
type Server struct {
	Process
	Addr   string     // Where clients connect.
	health string     // URL that says whether it has all that it should have.
	store  string     // Folder of its JetStream.
	disk   *disk.Disk // What the store is on; nil is this machine's own.
}

// StartCluster starts servers with their files under a folder.
func StartCluster(binary, dir string, o ClusterOptions) (*Cluster, error) {
	ports, err := freePorts(3 * o.Servers)
	if err != nil {
		return nil, err
	}
	c := &Cluster{links: map[link]*Proxy{}}
	for i := range o.Servers {
		name := fmt.Sprintf("nats-%d", i+1)
		s := &Server{
			Addr:   fmt.Sprintf("127.0.0.1:%d", ports[3*i]),
			health: fmt.Sprintf("http://127.0.0.1:%d/healthz", ports[3*i+1]),
			store:  filepath.Join(dir, name),
		}
		conf := filepath.Join(dir, name+".conf")
		s.Process = Process{Name: name, Path: binary, Args: []string{"--config", conf}, Log: filepath.Join(dir, name+".log"), Died: o.Died}
		c.Servers = append(c.Servers, s)
		text := fmt.Sprintf(serverConf, name, ports[3*i], ports[3*i+1], s.store, o.Sync)
		if o.Servers > 1 && err == nil {
			var routes string
			routes, err = c.routes(i, ports)
			text += routes
		}
		if o.Disks && err == nil {
			s.disk, err = disk.New(s.store, o.Kind)
		}
		if err == nil {
			err = os.WriteFile(conf, []byte(text), 0o644)
		}
		if err == nil {
			err = s.Start()
		}
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
	}
	return c, nil
}

// serverConf and clusterConf are deploy/cluster/nats.conf on one machine. Clients hear of no address but those that they are given,
// so that none goes round a proxy.
const (
	serverConf = `server_name: %s
listen: 127.0.0.1:%d
http: 127.0.0.1:%d
jetstream { store_dir: %q, sync_interval: %s, max_file_store: 16GB, max_memory_store: 256MB }
`
	clusterConf = "cluster { name: hersh, listen: 127.0.0.1:%d, advertise: %q, routes: [%s], no_advertise: true }\n"
)

// routes makes the proxies from one server to the others, and returns its configuration of the cluster.
func (c *Cluster) routes(from int, ports []int) (string, error) {
	if c.nowhere == nil {
		var err error
		if c.nowhere, err = NewProxy("127.0.0.1:1"); err != nil {
			return "", err
		}
		c.nowhere.Cut()
	}
	var routes []string
	for to := range len(ports) / 3 {
		if to == from {
			continue
		}
		p, err := NewProxy(fmt.Sprintf("127.0.0.1:%d", ports[3*to+2]))
		if err != nil {
			return "", err
		}
		c.links[link{from, to}] = p
		routes = append(routes, "nats-route://"+p.Addr())
	}
	return fmt.Sprintf(clusterConf, ports[3*from+2], c.nowhere.Addr(), strings.Join(routes, ", ")), nil
}

// between returns the proxies of both ways between two servers.
func (c *Cluster) between(a, b int) []*Proxy {
	return []*Proxy{c.links[link{a, b}], c.links[link{b, a}]}
}

// around returns the proxies of all ways between a server and the others.
func (c *Cluster) around(server int) []*Proxy {
	var list []*Proxy
	for other := range c.Servers {
		if other != server {
			list = append(list, c.between(server, other)...)
		}
	}
	return list
}

func (c *Cluster) hasDisks() bool { return c.Servers[0].disk != nil }

// URL has the addresses of all servers.
func (c *Cluster) URL() string {
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, "nats://"+s.Addr)
	}
	return strings.Join(urls, ",")
}

// AwaitHealthy waits until every server has caught up with everything. Nobody may lose a disk before that.
func (c *Cluster) AwaitHealthy(ctx context.Context) error {
	for _, s := range c.Servers {
		if err := s.awaitHealthy(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) awaitHealthy(ctx context.Context) error {
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for {
		why := ask(ctx, &client, s.health)
		if why == "" {
			return nil
		}
		if !pause.For(ctx, healthEvery) {
			return fmt.Errorf("%s is not healthy: %s: %w", s.Name, why, ctx.Err())
		}
	}
}

// ask returns "" when the server says that it is healthy, or why it is not.
func ask(ctx context.Context, client *http.Client, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode == http.StatusOK && err == nil {
		return ""
	}
	return fmt.Sprintf("%s (%v)", body, err)
}

// Wipe kills a server and removes what it has stored, as when its disk is lost. It is not started again.
func (s *Server) Wipe() error {
	s.Kill()
	if s.disk != nil {
		return s.disk.Wipe()
	}
	return os.RemoveAll(s.store)
}

// losePower cuts the power of the servers' disks, all at once, and ends the servers. Their disks have power again, and hold what
// was synced; the servers are not started again. Servers without a disk of their own are only killed.
func losePower(list ...*Server) error {
	for _, s := range list {
		if s.disk != nil {
			s.disk.Cut()
		}
	}
	var failures []error
	for _, s := range list {
		s.Kill()
		if s.disk != nil {
			failures = append(failures, s.disk.Restore())
		}
	}
	return errors.Join(failures...)
}

// Stop kills all servers.
func (c *Cluster) Stop() error {
	var failures []error
	for _, s := range c.Servers {
		s.Kill()
		if s.disk != nil {
			failures = append(failures, s.disk.Close())
		}
	}
	for _, p := range c.links {
		p.Close()
	}
	if c.nowhere != nil {
		c.nowhere.Close()
	}
	return errors.Join(failures...)
}

// freePorts returns ports that were free just now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
