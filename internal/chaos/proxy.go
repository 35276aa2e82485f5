package chaos

import (
	"net"
	"sync"
)

// Proxy passes TCP connections on to an address, until it is cut or held up.
type Proxy struct {
	listener net.Listener
	target   string
	group    sync.WaitGroup

	mu    sync.Mutex
	moved sync.Cond // Whenever held or cut changes.
	cut   bool
	held  bool
	conns map[net.Conn]bool
}

// NewProxy listens on loopback, on a free port.
func NewProxy(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: target, conns: map[net.Conn]bool{}}
	p.moved.L = &p.mu
	p.group.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections and refuses new ones, until Mend.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.moved.Broadcast()
}

// Hold lets nothing through and closes nothing, as a network that loses every packet for a while, until Mend.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

// Mend lets connections through again, and what was held up.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.held = false, false
	p.moved.Broadcast()
}

// Close ends the proxy and waits until nothing of it is left.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.Cut()
	p.group.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.group.Go(func() { p.serve(conn) })
	}
}

func (p *Proxy) serve(from net.Conn) {
	defer p.drop(from)
	if !p.keep(from) {
		return
	}
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer p.drop(to)
	if !p.keep(to) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		p.copy(from, to) // Either end closes both.
		_ = from.Close()
	})
	p.copy(to, from)
	_ = to.Close()
	back.Wait()
}

// copy passes on what comes until either end is closed.
func (p *Proxy) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err == nil {
			p.awaitOpen()
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) awaitOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held && !p.cut {
		p.moved.Wait()
	}
}

func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return !p.cut
}

func (p *Proxy) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}
