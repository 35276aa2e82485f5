package bus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
)

// guarded is a server that speaks TLS only, checks the certificates of its clients, and lets in one user by key, one by password and one
// by token.
type guarded struct {
	dir, url                 string
	key, ca, cert, secretKey string // Files.
}

func newGuarded(t *testing.T) guarded {
	t.Helper()
	dir := t.TempDir()
	g := guarded{dir: dir, key: filepath.Join(dir, "user.nk"), ca: filepath.Join(dir, "ca.crt"), cert: filepath.Join(dir, "ca.crt"), secretKey: filepath.Join(dir, "ca.key")}
	pair, err := nkeys.CreateUser()
	mustDo(t, err)
	seed, err := pair.Seed()
	mustDo(t, err)
	public, err := pair.PublicKey()
	mustDo(t, err)
	mustDo(t, os.WriteFile(g.key, seed, 0o600))
	certificate(t, g.cert, g.secretKey)
	conf := filepath.Join(dir, "nats.conf")
	mustDo(t, os.WriteFile(conf, []byte(`host: 127.0.0.1, port: -1
tls { cert_file: "`+g.cert+`", key_file: "`+g.secretKey+`", ca_file: "`+g.ca+`", verify: true }
authorization { users: [ { nkey: `+public+`, permissions { publish: ">", subscribe: ["_INBOX_`+public+`.>"] } }, { user: bob, password: "pass" } ] }
`), 0o600))
	srv, err := natsserver.StartConfig(natsserver.Config{Path: conf})
	mustDo(t, err)
	t.Cleanup(srv.Shutdown)
	g.url = srv.URL()
	return g
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// certificate writes a certificate for 127.0.0.1 that is its own authority, of a server and of a client.
func certificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	mustDo(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"},
	}
	template.IPAddresses = append(template.IPAddresses, []byte{127, 0, 0, 1})
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	mustDo(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	mustDo(t, err)
	mustDo(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	mustDo(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

// context writes a context of the nats command line.
func (g guarded) context(t *testing.T, name string, fields map[string]string) {
	t.Helper()
	dir := filepath.Join(g.dir, "nats", "context")
	mustDo(t, os.MkdirAll(dir, 0o700))
	data, err := json.Marshal(fields)
	mustDo(t, err)
	mustDo(t, os.WriteFile(filepath.Join(dir, name+".json"), data, 0o600))
}

// TestAccess connects in each way that there is to say who one is, and asks something, so that the answer arrives too.
func TestAccess(t *testing.T) {
	g := newGuarded(t)
	t.Setenv("XDG_CONFIG_HOME", g.dir)
	tls := map[string]string{"url": g.url, "ca": g.ca, "cert": g.cert, "key": g.secretKey}
	with := func(more ...string) map[string]string {
		fields := map[string]string{}
		for k, v := range tls {
			fields[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			fields[more[i]] = more[i+1]
		}
		return fields
	}
	g.context(t, "byKey", with("nkey", g.key))
	g.context(t, "byPassword", with("user", "bob", "password", "pass", "inbox_prefix", "_INBOX_bob"))
	g.context(t, "tlsOnly", tls)
	// As the nats command line writes one, with fields that do not matter here.
	g.context(t, "complete", with("description", "all", "token", "", "user", "bob", "password", "pass", "creds", "", "nkey", "", "user_jwt", "", "nsc", "", "color_scheme", ""))

	for name, tc := range map[string]struct {
		access bus.Access
		server string
		inbox  string
	}{
		"a key file":                 {access: bus.Access{NKey: g.key, TLSCA: g.ca, TLSCert: g.cert, TLSKey: g.secretKey}, server: g.url, inbox: "_INBOX_U"},
		"a context with a key":       {access: bus.Access{Context: "byKey"}, inbox: "_INBOX_U"},
		"a context with a password":  {access: bus.Access{Context: "byPassword"}, server: bus.DefaultServer, inbox: "_INBOX_bob"},
		"a context as it is written": {access: bus.Access{Context: "complete"}, inbox: "_INBOX."},
		"TLS of a context, a key":    {access: bus.Access{Context: "tlsOnly", NKey: g.key}, inbox: "_INBOX_U"},
		"a key before a password":    {access: bus.Access{Context: "byPassword", NKey: g.key}, inbox: "_INBOX_U"},
	} {
		t.Run(name, func(t *testing.T) {
			url, opts, err := tc.access.Resolve(tc.server)
			mustDo(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			nc, err := nats.Connect(url, append(opts, nats.Timeout(time.Minute))...)
			mustDo(t, err)
			defer nc.Close()
			if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, tc.inbox) {
				t.Errorf("answers come to %s, want %s…", inbox, tc.inbox)
			}
			// Nobody listens, and the server says so at the inbox.
			if _, err := nc.RequestWithContext(ctx, "hersh.nobody", nil); !errors.Is(err, nats.ErrNoResponders) {
				t.Errorf("request: %v, want no responders", err)
			}
			if !tc.access.Set() {
				t.Error("it is not said who connects")
			}
		})
	}
}

// TestAccessRefused is what must fail, and not say more than it should.
func TestAccessRefused(t *testing.T) {
	g := newGuarded(t)
	t.Setenv("XDG_CONFIG_HOME", g.dir)
	const secret = "SUAPLANTEDSECRET"
	broken := filepath.Join(g.dir, "broken.nk")
	mustDo(t, os.WriteFile(broken, []byte(secret), 0o600))
	mustDo(t, os.MkdirAll(filepath.Join(g.dir, "nats", "context"), 0o700))
	mustDo(t, os.WriteFile(filepath.Join(g.dir, "nats", "context", "broken.json"), []byte(`{"password":"`+secret+`"`), 0o600))
	huge := filepath.Join(g.dir, "huge.nk")
	mustDo(t, os.WriteFile(huge, make([]byte, 1<<20), 0o600))
	for name, access := range map[string]bus.Access{
		"no such key file":         {NKey: filepath.Join(g.dir, "none")},
		"a key file without a key": {NKey: broken},
		"a huge key file":          {NKey: huge},
		"no such credentials":      {Creds: filepath.Join(g.dir, "none")},
		"two ways at once":         {NKey: g.key, Creds: g.key},
		"no such context":          {Context: "none"},
		"a context that is broken": {Context: "broken"},
		"a context by its path":    {Context: "../nats/context/broken"},
		"a certificate alone":      {NKey: g.key, TLSCert: g.cert},
		"a TLS key alone":          {NKey: g.key, TLSKey: g.secretKey},
	} {
		_, _, err := access.Resolve(g.url)
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
	for name, access := range map[string]bus.Access{
		"without an authority":  {NKey: g.key, TLSCert: g.cert, TLSKey: g.secretKey},
		"without a certificate": {NKey: g.key, TLSCA: g.ca},
		"without a user":        {TLSCA: g.ca, TLSCert: g.cert, TLSKey: g.secretKey},
		"without anything":      {},
	} {
		url, opts, err := access.Resolve(g.url)
		mustDo(t, err)
		if nc, err := nats.Connect(url, opts...); err == nil {
			nc.Close()
			t.Errorf("%s: let in", name)
		}
	}
}
