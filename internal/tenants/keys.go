package tenants

import (
	"bytes"
	"fmt"

	"github.com/nats-io/nkeys"
)

// newKey makes the key of a user. secret is the content of its file: the seed, after a line for people, which nats.go and the nats CLI
// skip.
func newKey(owner string) (public PublicKey, secret []byte, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", nil, fmt.Errorf("make a key for %s: %w", owner, err)
	}
	defer pair.Wipe()
	text, err := pair.PublicKey()
	if err != nil {
		return "", nil, fmt.Errorf("make a key for %s: %w", owner, err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return "", nil, fmt.Errorf("make a key for %s: %w", owner, err)
	}
	var file bytes.Buffer
	fmt.Fprintf(&file, "# The secret key of %s. Whoever has it is taken for them.\n%s\n", owner, seed)
	return PublicKey(text), file.Bytes(), nil
}
