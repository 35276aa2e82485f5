package tenants

import (
	"fmt"
	"strings"
)

// Limits of one account. The server counts connections and subscriptions of all users of the account together.
const (
	tenantConnections   = 64
	tenantSubscriptions = 1024
	tenantPayload       = 256 << 10 // A chunk of an upload is the largest that a tenant has to send.
	hostConnections     = 4         // One executor, and its successor while it goes.
	hostSubscriptions   = 4096
	hostPayload         = 1 << 20
)

// Accounts returns accounts.conf of a model. The same model gives the same bytes.
func Accounts(m Model) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := &writer{}
	w.line("# Made by `hersh tenants`; whatever is changed here is lost with the next tenant. Public keys only: the secret halves are files")
	w.line("# of their owners.")
	w.line("system_account: %s", accountSystem)
	w.block("accounts", func() {
		w.block(accountSystem, func() {})
		w.hersh(m)
		for _, host := range sortedHosts(m) {
			w.member(HostAccount(host), m.Hosts[host], hostPermissions(m.Hosts[host]),
				append(sharedHostImports(), ownHostImports(host)...), hostConnections, hostSubscriptions, hostPayload)
		}
		for _, user := range sortedTenants(m) {
			w.member(string(user), m.Tenants[user], tenantPermissions(user, m.Tenants[user]),
				tenantImports(user), tenantConnections, tenantSubscriptions, tenantPayload)
		}
	})
	return []byte(w.b.String()), nil
}

// writer writes the format of nats-server. Every name that it quotes was parsed before and holds neither quotes nor backslashes.
type writer struct {
	b      strings.Builder
	indent int
}

func (w *writer) line(format string, args ...any) {
	w.b.WriteString(strings.Repeat("  ", w.indent))
	fmt.Fprintf(&w.b, format, args...)
	w.b.WriteByte('\n')
}

func (w *writer) block(name string, body func()) { w.enclose(name+" {", "}", body) }
func (w *writer) list(name string, body func())  { w.enclose(name+": [", "]", body) }

func (w *writer) enclose(open, end string, body func()) {
	w.line("%s", open)
	w.indent++
	body()
	w.indent--
	w.line("%s", end)
}

func (w *writer) hersh(m Model) {
	w.block(accountHersh, func() {
		w.line("jetstream: enabled")
		w.list("users", func() {
			w.user(Provisioner, m.Provisioner, provisionerPermissions(m))
			w.user(Supervisor, m.Supervisor, supervisorPermissions(m))
		})
		w.list("exports", func() {
			for _, e := range exports(m) {
				w.export(e)
			}
		})
	})
}

// member writes the account of a host or a tenant: one user, imports from the account of Hersh, no JetStream.
func (w *writer) member(account string, key PublicKey, p permissions, imports []crossing, connections, subscriptions, payload int) {
	w.block(account, func() {
		w.line("limits { max_connections: %d, max_subscriptions: %d, max_payload: %d, max_leafnodes: 0 }", connections, subscriptions, payload)
		w.list("users", func() { w.user(account, key, p) })
		w.list("imports", func() {
			for _, imp := range imports {
				w.crossing(imp)
			}
		})
	})
}

func (w *writer) user(name string, key PublicKey, p permissions) {
	w.enclose("{", "}", func() {
		w.line("nkey: %s # %s", key, name)
		w.block("permissions", func() {
			w.block("publish", func() {
				w.list("allow", func() { w.subjects(p.publish) })
				if len(p.denyPublish) > 0 {
					w.list("deny", func() { w.subjects(p.denyPublish) })
				}
			})
			w.block("subscribe", func() { w.list("allow", func() { w.subjects(p.subscribe) }) })
		})
	})
}

func (w *writer) subjects(subjects []string) {
	for _, s := range subjects {
		w.line("%q", s)
	}
}

func (w *writer) export(e export) {
	what := fmt.Sprintf("stream: %q", e.stream)
	if e.service != "" {
		what = fmt.Sprintf("service: %q", e.service)
	}
	if e.streamed {
		what += ", response_type: stream"
	}
	if e.position > 0 {
		w.line("{ %s, account_token_position: %d }", what, e.position)
		return
	}
	w.line("{ %s, accounts: [%s] }", what, strings.Join(e.accounts, ", "))
}

func (w *writer) crossing(c crossing) {
	kind, subject := "stream", c.stream
	if c.service != "" {
		kind, subject = "service", c.service
	}
	to := ""
	if c.local != "" {
		to = fmt.Sprintf(", to: %q", c.local)
	}
	w.line("{ %s: { account: %s, subject: %q }%s }", kind, accountHersh, subject, to)
}
