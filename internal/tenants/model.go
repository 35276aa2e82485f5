package tenants

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nkeys"

	"github.com/rlaaudgjs5638/hersh/events"
)

// The accounts that are there from the start. No UserID and no account of a host is spelled like them.
const (
	accountHersh  = "HERSH"
	accountSystem = "SYS"
)

// The users of the account of Hersh.
const (
	// Provisioner creates what all programs share, and is what an operator works with.
	Provisioner = "provisioner"
	// Supervisor is the user of every supervisor.
	Supervisor = "supervisor"
)

// maxMembers bounds the tenants, and the hosts.
const maxMembers = 10_000

var (
	// ErrNotThere says that there is no such tenant or host.
	ErrNotThere = errors.New("is not there")
	// ErrInvalidModel says that a model is not one that Add and Remove make.
	ErrInvalidModel = errors.New("invalid model of tenants")
)

// PublicKey is the public half of the key of a user; the server knows no other half.
type PublicKey string

// Model says who may connect.
type Model struct {
	Provisioner PublicKey                   `json:"provisioner"`
	Supervisor  PublicKey                   `json:"supervisor"`
	Hosts       map[events.HostID]PublicKey `json:"hosts"`
	Tenants     map[events.UserID]PublicKey `json:"tenants"`
}

// Validate checks a model that comes from a file: every name is one, every key is one, and no key is there twice.
func (m Model) Validate() error {
	if len(m.Hosts) > maxMembers || len(m.Tenants) > maxMembers {
		return fmt.Errorf("%w: more than %d hosts or tenants", ErrInvalidModel, maxMembers)
	}
	owners := map[PublicKey]string{}
	claim := func(owner string, key PublicKey) error {
		if !nkeys.IsValidPublicUserKey(string(key)) {
			return fmt.Errorf("%w: %s has no public user key", ErrInvalidModel, owner)
		}
		if other, taken := owners[key]; taken {
			return fmt.Errorf("%w: %s and %s have the same key", ErrInvalidModel, other, owner)
		}
		owners[key] = owner
		return nil
	}
	failures := []error{claim(Provisioner, m.Provisioner), claim(Supervisor, m.Supervisor)}
	for _, host := range sortedHosts(m) {
		_, err := events.ParseHostID(string(host))
		failures = append(failures, err, claim("host "+string(host), m.Hosts[host]))
	}
	for _, user := range sortedTenants(m) {
		_, err := events.ParseUserID(string(user))
		failures = append(failures, err, claim("tenant "+string(user), m.Tenants[user]))
	}
	return errors.Join(failures...)
}

// HostAccount is the account of a host.
func HostAccount(host events.HostID) string { return events.HostAccount(host) }

// InboxPrefix is where the user of a key gets its answers.
func InboxPrefix(key PublicKey) string { return events.InboxPrefix(string(key)) }

func sortedHosts(m Model) []events.HostID   { return slices.Sorted(maps.Keys(m.Hosts)) }
func sortedTenants(m Model) []events.UserID { return slices.Sorted(maps.Keys(m.Tenants)) }

// hostAccounts are the accounts of all hosts, sorted.
func hostAccounts(m Model) []string {
	var accounts []string
	for _, host := range sortedHosts(m) {
		accounts = append(accounts, HostAccount(host))
	}
	return accounts
}
