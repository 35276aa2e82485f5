package bus

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestFromLeader(t *testing.T) {
	peers := []*jetstream.PeerInfo{{Name: "n1"}, {Name: "n2"}}
	for _, c := range []struct {
		name string
		info *jetstream.ClusterInfo
		want bool
	}{
		{"a server that says nothing of a cluster", nil, true},
		{"a single server, or one copy in a cluster", &jetstream.ClusterInfo{Leader: "n0"}, true},
		{"the leader of three", &jetstream.ClusterInfo{Name: "hersh", Leader: "n0", Replicas: peers}, true},
		{"a member without a leader", &jetstream.ClusterInfo{Name: "hersh", Replicas: append(peers, &jetstream.PeerInfo{Name: "n0"})}, false},
		{"a member that names another", &jetstream.ClusterInfo{Name: "hersh", Leader: "n1", Replicas: peers}, false},
	} {
		if got := fromLeader(c.info); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
