package events

// HostAccount names the NATS account of a host, where hosts have accounts. No UserID has upper-case letters, so no tenant's account is
// called so.
func HostAccount(host HostID) string { return "HOST-" + string(host) }

// InboxPrefix is where the user of a public key gets the answers to its requests. It follows from the key, so that whoever has the
// key needs to be told nothing else.
func InboxPrefix(publicKey string) string { return "_INBOX_" + publicKey }

func (o Origin) origin() Origin { return o }

// OriginOf returns the Origin of a result, and false for an event that is none.
func OriginOf(ev Event) (Origin, bool) {
	result, ok := ev.(interface{ origin() Origin })
	if !ok {
		return Origin{}, false
	}
	return result.origin(), true
}
