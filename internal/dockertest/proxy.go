package dockertest

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and Docker. It can cut the line, as a daemon that dies does, and change requests, as a
// daemon that does not do what it is told.
type Proxy struct {
	Host string // As in DOCKER_HOST.

	mu     sync.Mutex
	broken bool
	open   map[net.Conn]bool
	change func(*http.Request)
}

// NewProxy returns a proxy for the test's Docker. It ends with the test.
func NewProxy(t testing.TB, d *Docker) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "hersh-proxy-") // The path of a socket must be short: t.TempDir is not.
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Host: "unix://" + socket, open: map[net.Conn]bool{}}
	client, base := dial(d.Host)
	target, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p.handler(client, target), ConnState: p.track, ReadHeaderTimeout: 10 * time.Second}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
		client.CloseIdleConnections()
		_ = os.RemoveAll(dir)
	})
	return p
}

// Break cuts all connections, and refuses new ones until Mend.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = true
	p.cut()
}

// Cut cuts all connections once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// Mend ends what Break began.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
}

// Change lets f see, and change, every request from now on.
func (p *Proxy) Change(f func(*http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change = f
}

func (p *Proxy) cut() {
	for conn := range p.open {
		_ = conn.Close()
	}
}

func (p *Proxy) track(conn net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.open[conn] = true
		if p.broken {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(p.open, conn)
	}
}

func (p *Proxy) handler(client *http.Client, target *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			p.mu.Lock()
			change := p.change
			p.mu.Unlock()
			if change != nil {
				change(r.Out)
			}
		},
		Transport:     client.Transport,
		FlushInterval: -1, // Streams are to arrive as they are sent.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
}
