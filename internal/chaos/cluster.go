package chaos

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	servers     = 3
	healthEvery = 100 * time.Millisecond
)

// Cluster is three NATS servers, each a process with a folder of its own.
type Cluster struct {
	Servers [servers]*Server
}

// Server is one of them.
type Server struct {
	Process
	Addr   string // Where clients connect.
	health string // URL that says whether it has all that it should have.
	store  string // Folder of its JetStream.
}

// StartCluster starts three servers with their files under a folder. Died hears of one that ends by itself.
func StartCluster(binary, dir string, died func(error)) (*Cluster, error) {
	ports, err := freePorts(3 * servers)
	if err != nil {
		return nil, err
	}
	var routes []string
	for i := range servers {
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", ports[3*i+2]))
	}
	c := &Cluster{}
	for i := range servers {
		name := fmt.Sprintf("nats-%d", i+1)
		s := &Server{
			Addr:   fmt.Sprintf("127.0.0.1:%d", ports[3*i]),
			health: fmt.Sprintf("http://127.0.0.1:%d/healthz", ports[3*i+1]),
			store:  filepath.Join(dir, name),
		}
		conf := filepath.Join(dir, name+".conf")
		text := fmt.Sprintf(serverConf, name, ports[3*i], ports[3*i+1], s.store, ports[3*i+2], strings.Join(routes, ", "))
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			return nil, err
		}
		s.Process = Process{Name: name, Path: binary, Args: []string{"--config", conf}, Log: filepath.Join(dir, name+".log"), Died: died}
		c.Servers[i] = s
		if err := s.Start(); err != nil {
			c.Stop()
			return nil, err
		}
	}
	return c, nil
}

// serverConf is deploy/cluster/nats.conf on one machine. Clients hear of no address but those that they are given, so that none
// goes round a proxy.
const serverConf = `server_name: %s
listen: 127.0.0.1:%d
http: 127.0.0.1:%d
jetstream { store_dir: %q, sync_interval: always, max_file_store: 16GB, max_memory_store: 256MB }
cluster { name: hersh, listen: 127.0.0.1:%d, routes: [%s], no_advertise: true }
`

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
		if !pause(ctx, healthEvery) {
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
	if err != nil || resp.StatusCode == http.StatusOK {
		return ""
	}
	return string(body)
}

// Wipe kills a server and removes what it has stored, as when its disk is lost. It is not started again.
func (s *Server) Wipe() error {
	s.Kill()
	return os.RemoveAll(s.store)
}

// Stop kills all servers.
func (c *Cluster) Stop() {
	for _, s := range c.Servers {
		if s != nil {
			s.Kill()
		}
	}
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

// pause waits, and reports false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
