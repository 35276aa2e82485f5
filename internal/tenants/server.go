package tenants

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// ServerOptions are what `hersh tenants init` writes into nats.conf, which is the operator's from then on.
type ServerOptions struct {
	Listen   string // Address for clients, "" is 127.0.0.1:4222; port 0 is any free one.
	StoreDir string // Folder of the JetStream files.
	TLSCert  string // File of the server's certificate; "" is no TLS.
	TLSKey   string // File of its secret key.
}

func (o ServerOptions) config() ([]byte, error) {
	listen := o.Listen
	if listen == "" {
		listen = "127.0.0.1:4222"
	}
	host, port, err := net.SplitHostPort(listen)
	number, convErr := strconv.ParseUint(port, 10, 16)
	if err != nil || convErr != nil {
		return nil, fmt.Errorf("%q is not an address like 127.0.0.1:4222", listen)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	listenPort := int(number)
	if listenPort == 0 {
		listenPort = -1 // As the server spells any free one.
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, fmt.Errorf("TLS needs a certificate and its key")
	}
	for _, path := range []string{host, o.StoreDir, o.TLSCert, o.TLSKey} {
		if strings.ContainsAny(path, "\"\\\n\r") {
			return nil, fmt.Errorf("%q cannot be written into nats.conf", path)
		}
	}
	w := &writer{}
	w.line("# Made once by `hersh tenants init`, and never written again: change it as you like.")
	w.line("host: %q", host)
	w.line("port: %d", listenPort)
	w.line("")
	w.line("# Who may do what. Made anew with every tenant.")
	w.line("include %q", fileAccounts)
	w.line("")
	w.block("jetstream", func() {
		w.line("store_dir: %q", o.StoreDir)
		w.line("# Every write is on disk before it is acknowledged. Without this line JetStream syncs every two minutes.")
		w.line("sync_interval: always")
	})
	w.line("")
	w.line("# Of all accounts together, and of each connection.")
	w.line("max_connections: 4096")
	w.line("max_subscriptions: 8192")
	w.line("max_payload: 1MB")
	w.line("max_pending: 32MB")
	w.line("max_control_line: 4KB")
	w.line("authorization { timeout: 5 }")
	w.line("write_deadline: \"10s\"")
	if o.TLSCert != "" {
		w.line("")
		w.block("tls", func() {
			w.line("cert_file: %q", o.TLSCert)
			w.line("key_file: %q", o.TLSKey)
			w.line("min_version: \"1.2\"")
			w.line("timeout: 5")
		})
	}
	return []byte(w.b.String()), nil
}
