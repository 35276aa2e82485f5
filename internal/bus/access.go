package bus

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/rlaaudgjs5638/hersh/events"
)

// maxAccessFile bounds the files that Access reads.
const maxAccessFile = 64 << 10

// Access says as whom to connect. It names files: a secret is never in an argument, a variable, a log or an error. The tags are the
// flags of every command that connects.
type Access struct {
	NKey    string `name:"nkey" help:"File with the secret key of a NATS user." env:"HERSH_NKEY" placeholder:"FILE"`
	Creds   string `name:"creds" help:"File with the credentials of a NATS user: its JWT and its secret key." env:"HERSH_CREDS" placeholder:"FILE"`
	TLSCA   string `name:"tls-ca" help:"File with the certificates by which the server's is checked." env:"HERSH_TLS_CA" placeholder:"FILE"`
	TLSCert string `name:"tls-cert" help:"File with the certificate by which the server checks this client." env:"HERSH_TLS_CERT" placeholder:"FILE"`
	TLSKey  string `name:"tls-key" help:"File with the secret key of that certificate." env:"HERSH_TLS_KEY" placeholder:"FILE"`
	Context string `name:"context" help:"Take what is not said here from this context of the nats command line." env:"HERSH_CONTEXT" placeholder:"NAME"`
}

// Set reports whether it is said who connects: on a bus of development there is nobody to be.
func (a Access) Set() bool { return a.NKey != "" || a.Creds != "" || a.Context != "" }

// DefaultServer is where a server is looked for that nobody named.
const DefaultServer = "nats://127.0.0.1:4222"

// Resolve returns where to connect and how. A server that is "" or the default gives way to that of a context.
func (a Access) Resolve(server string) (url string, opts []nats.Option, err error) {
	var c natsContext
	if a.Context != "" {
		if c, err = readContext(a.Context); err != nil {
			return "", nil, err
		}
	}
	if server == "" || server == DefaultServer {
		server = cmp.Or(c.URL, DefaultServer)
	}
	if a.NKey != "" || a.Creds != "" {
		c.NKey, c.Creds, c.InboxPrefix, c.User, c.Password, c.Token = a.NKey, a.Creds, "", "", "", ""
	}
	if a.TLSCA != "" {
		c.CA = a.TLSCA
	}
	if a.TLSCert != "" || a.TLSKey != "" {
		c.Cert, c.Key = a.TLSCert, a.TLSKey
	}
	opts, err = c.options()
	return server, opts, err
}

// natsContext is what a context of the nats command line holds, as far as it matters here.
type natsContext struct {
	URL         string `json:"url"`
	Token       string `json:"token"`
	User        string `json:"user"`
	Password    string `json:"password"`
	NKey        string `json:"nkey"`
	Creds       string `json:"creds"`
	CA          string `json:"ca"`
	Cert        string `json:"cert"`
	Key         string `json:"key"`
	InboxPrefix string `json:"inbox_prefix"`
}

func readContext(name string) (natsContext, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`).MatchString(name) || name[0] == '.' {
		return natsContext{}, fmt.Errorf("%.40q is not the name of a NATS context", name)
	}
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return natsContext{}, fmt.Errorf("find NATS context %s: %w", name, err)
		}
		dir = filepath.Join(home, ".config")
	}
	data, err := readBounded(filepath.Join(dir, "nats", "context", name+".json"))
	if err != nil {
		return natsContext{}, fmt.Errorf("read NATS context %s: %w", name, err)
	}
	var c natsContext
	if json.Unmarshal(data, &c) != nil {
		// What is wrong with it may be a line with a password.
		return natsContext{}, fmt.Errorf("read NATS context %s: it is not JSON as the nats command line writes it", name)
	}
	return c, nil
}

func (c natsContext) options() ([]nats.Option, error) {
	var opts []nats.Option
	switch {
	case c.NKey != "" && c.Creds != "":
		return nil, errors.New("say either a key file or a credentials file")
	case c.NKey != "":
		keyOpts, err := nkeyOptions(c.NKey)
		if err != nil {
			return nil, err
		}
		opts = append(opts, keyOpts...)
	case c.Creds != "":
		if _, err := os.Stat(c.Creds); err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		opts = append(opts, nats.UserCredentials(c.Creds))
	case c.User != "":
		opts = append(opts, nats.UserInfo(c.User, c.Password))
	case c.Token != "":
		opts = append(opts, nats.Token(c.Token))
	}
	if c.CA != "" {
		if _, err := os.Stat(c.CA); err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		opts = append(opts, nats.RootCAs(c.CA))
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("a certificate of this client needs its key, and the key its certificate")
	}
	if c.Cert != "" {
		opts = append(opts, nats.ClientCert(c.Cert, c.Key))
	}
	if c.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	return opts, nil
}

// nkeyOptions signs with a key file, which is read again with each connect, and takes answers where only this user may hear them.
func nkeyOptions(file string) ([]nats.Option, error) {
	data, err := readBounded(file)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	defer clear(data)
	sign, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", file, err)
	}
	pair, err := nkeys.ParseDecoratedNKey(data)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", file, err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", file, err)
	}
	return []nats.Option{sign, nats.CustomInboxPrefix(events.InboxPrefix(public))}, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 G703 -- Whoever runs this process names its key file.
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // It was only read.
	data, err := io.ReadAll(io.LimitReader(f, maxAccessFile+1))
	if err == nil && len(data) > maxAccessFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxAccessFile)
	}
	return data, err
}

// Redact hides the passwords in a URL, or in a list of them separated by commas: for logs, and for errors.
func Redact(servers string) string {
	parts := strings.Split(servers, ",")
	for i, part := range parts {
		u, err := url.Parse(strings.TrimSpace(part))
		switch {
		case err == nil:
			parts[i] = u.Redacted()
			if _, hasPassword := u.User.Password(); u.User != nil && !hasPassword {
				u.User = url.User("xxxxx") // A name alone is a token.
				parts[i] = u.String()
			}
		case strings.Contains(part, "@"):
			parts[i] = "an address that cannot be read" // Nor can what of it is a password.
		}
	}
	return strings.Join(parts, ",")
}
