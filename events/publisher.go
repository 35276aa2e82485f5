package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// hostAccountPrefix begins the name of the account of a host. No UserID has upper-case letters, so no tenant's account does.
const hostAccountPrefix = "HOST-"

// ErrForged says that an event was published by somebody who may not say it: a host in the name of another, or a relayed answer.
var ErrForged = errors.New("forged event")

// Publisher is what the server itself says of who published a message. The zero value is that it says nothing, as on a server without
// accounts; then nothing is held against an event.
type Publisher struct {
	Host    HostID // The host whose account it came from; "" is none.
	Relayed bool   // It is the answer to a request that named the event's subject as the one to reply to.
}

// HostAccount names the NATS account of a host.
func HostAccount(host HostID) string { return hostAccountPrefix + string(host) }

// ParsePublisher reads the header in which the server names the account that a message comes from. The server replaces whatever a client
// wrote there when a message crosses between accounts; what cannot be read is held against nobody.
func ParsePublisher(info string) Publisher {
	var from struct {
		Account string `json:"acc"`
		Service string `json:"svc"` // Set where a message crossed more than once.
	}
	if info == "" || json.Unmarshal([]byte(info), &from) != nil {
		return Publisher{}
	}
	p := Publisher{Relayed: from.Service != ""}
	if name, found := strings.CutPrefix(from.Account, hostAccountPrefix); found {
		p.Host = HostID(name)
	}
	return p
}

// MayPublish returns nil where the publisher may say the event, and ErrForged with the reason where not.
func (p Publisher) MayPublish(ev Event) error {
	if p.Relayed {
		return fmt.Errorf("%w: it was not published, but is the answer to a request", ErrForged)
	}
	if p.Host == "" {
		return nil
	}
	origin, isResult := OriginOf(ev)
	if !isResult || origin.HostID != p.Host {
		return fmt.Errorf("%w: host %s says it in the name of %s", ErrForged, quote(string(p.Host)), quote(string(origin.HostID)))
	}
	return nil
}

func (o Origin) origin() Origin { return o }

// OriginOf returns the Origin of a result, and false for an event that is none.
func OriginOf(ev Event) (Origin, bool) {
	result, ok := ev.(interface{ origin() Origin })
	if !ok {
		return Origin{}, false
	}
	return result.origin(), true
}

// InboxPrefix is where the user of a public key gets the answers to its requests. It follows from the key, so that whoever has the
// key needs to be told nothing else.
func InboxPrefix(publicKey string) string { return "_INBOX_" + publicKey }
