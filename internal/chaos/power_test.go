package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/disk"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const ackedBefore = 300 // Acknowledgements before each power cut.

// powered is NATS servers on disks whose power can be cut, and what they acknowledged.
type powered struct {
	t       *testing.T
	cluster *Cluster
	nc      *nats.Conn
	ids     []events.ProgramID

	mu    sync.Mutex
	acked map[events.ProgramID]map[uint64]string // The token at each sequence.
	next  int
	more  chan struct{} // Gets a value for each acknowledgement, if somebody waits.
}

func newPowered(t *testing.T, servers int, sync string, kind disk.Kind) *powered {
	t.Helper()
	if !disk.Supported() {
		t.Skip(disk.ErrUnsupported)
	}
	dir := t.TempDir()
	binary, err := Build(t.Context(), dir, "github.com/nats-io/nats-server/v2")
	must(t, err)
	cluster, err := StartCluster(binary, dir, ClusterOptions{
		Servers: servers, Sync: sync, Disks: true, Kind: kind, Died: func(err error) { t.Error(err) },
	})
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	p := &powered{t: t, cluster: cluster, acked: map[events.ProgramID]map[uint64]string{}, more: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	p.nc, err = connect(ctx, cluster.URL())
	must(t, err)
	t.Cleanup(p.nc.Close)
	b, err := bus.New(p.nc, natstest.Log(t), bus.Options{Replicas: servers})
	must(t, err)
	for provision(ctx, b) != nil && pause.For(ctx, healthEvery) {
	}
	p.ids, err = create(ctx, b, digest, 4)
	must(t, err)
	return p
}

// publish appends to all programs at once until ctx ends, and remembers each acknowledgement.
func (p *powered) publish(ctx context.Context) {
	var group sync.WaitGroup
	for _, id := range p.ids {
		group.Go(func() {
			for ctx.Err() == nil {
				p.mu.Lock()
				p.next++
				token := fmt.Sprint(p.next)
				p.mu.Unlock()
				p.publishOne(ctx, id, token)
			}
		})
	}
	group.Wait()
}

func (p *powered) publishOne(ctx context.Context, id events.ProgramID, token string) {
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	reply, err := p.nc.RequestMsgWithContext(ctx, &nats.Msg{
		Subject: events.EventSubject(id, events.TypeUserStopRequested), Header: nats.Header{tokenHeader: {token}}, Data: []byte("{}"),
	})
	var ack nats.PubAck
	var said struct{ Error *struct{} }
	if err != nil || json.Unmarshal(reply.Data, &ack) != nil || json.Unmarshal(reply.Data, &said) != nil || said.Error != nil || ack.Sequence == 0 {
		pause.For(ctx, time.Millisecond)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.acked[id] == nil {
		p.acked[id] = map[uint64]string{}
	}
	if before := p.acked[id][ack.Sequence]; before != "" {
		p.t.Errorf("event %d of %s was acknowledged for %s and for %s: the first is lost", ack.Sequence, id, before, token)
	}
	p.acked[id][ack.Sequence] = token
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *powered) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, acked := range p.acked {
		n += len(acked)
	}
	return n
}

// cut lets publications go on until enough more are acknowledged, and cuts the power of some servers in the middle of them.
func (p *powered) cut(list ...*Server) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { p.publish(ctx) })
	for enough := p.count() + ackedBefore; p.count() < enough; {
		select {
		case <-p.more:
		case <-ctx.Done():
			p.t.Fatalf("only %d publications were acknowledged in time", p.count())
		}
	}
	must(p.t, losePower(list...))
	cancel()
	group.Wait()
	for _, s := range list {
		must(p.t, s.Start())
	}
	ctx, cancel = context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	must(p.t, p.cluster.AwaitHealthy(ctx))
}

// lost is how many acknowledged publications are not where they were acknowledged. Of a stream that cannot be read to its end all are
// lost, and it counts itself where nothing of it was acknowledged.
func (p *powered) lost() int {
	p.t.Helper()
	lost := 0
	for _, id := range p.ids {
		found := map[uint64]string{}
		err := p.read(id, func(seq uint64, msg *nats.Msg) { found[seq] = msg.Header.Get(tokenHeader) })
		lost += p.missing(id, found, err)
	}
	return lost
}

func (p *powered) missing(id events.ProgramID, found map[uint64]string, err error) (missing int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.t.Logf("%s cannot be read: %v", id, err)
		return max(len(p.acked[id]), 1)
	}
	for seq, token := range p.acked[id] {
		if found[seq] != token {
			missing++
		}
	}
	return missing
}

// read reads a log to the end that its stream has now.
func (p *powered) read(id events.ProgramID, fn func(uint64, *nats.Msg)) error {
	js, err := p.nc.JetStream()
	if err != nil {
		return err
	}
	var info *nats.StreamInfo
	for end := time.Now().Add(deadline); ; { // Its leader is elected after a restart.
		if info, err = js.StreamInfo(events.ProgramStream(id)); err == nil || errors.Is(err, nats.ErrStreamNotFound) || time.Now().After(end) {
			break
		}
		pause.For(p.t.Context(), healthEvery)
	}
	if err != nil {
		return err
	}
	tr := truth{id: id}
	tr.at.Seq = info.State.LastSeq
	return (&checker{nc: p.nc}).each(tr, fn)
}

// syncFolders makes all names of a disk safe.
func syncFolders(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		folder, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(folder.Sync(), folder.Close())
	}))
}

// What was acknowledged is there after the power was cut, of one server and of three that replicate, all at once.
//
// The server does not sync the folders that it makes a stream's folder in. On ext4, XFS and the like that changes nothing. On a disk
// that does no more than POSIX promises, all names that there are before the first cut are synced here for it; see
// TestPowerLossLosesEvents.
func TestPowerLoss(t *testing.T) {
	for _, tc := range []struct {
		name    string
		servers int
		kind    disk.Kind
		cuts    int
	}{
		{"one server", 1, disk.Journaled, 3},
		{"one server, torn writes", 1, disk.Torn, 6},
		{"one server, strict disk", 1, disk.Strict, 3},
		{"three servers, torn writes", servers, disk.Torn, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPowered(t, tc.servers, syncAlways, tc.kind)
			for _, s := range p.cluster.Servers {
				if tc.kind == disk.Strict {
					syncFolders(t, s.store)
				}
			}
			for range tc.cuts {
				p.cut(p.cluster.Servers...)
			}
			if lost := p.lost(); lost > 0 {
				t.Errorf("%d of %d acknowledged events are lost", lost, p.count())
			}
			t.Logf("%d power cuts, %d acknowledged events", tc.cuts, p.count())
		})
	}
}

// These lose what was acknowledged, as docs/reliability.md warns; and they show that TestPowerLoss can fail.
func TestPowerLossLosesEvents(t *testing.T) {
	for _, tc := range []struct {
		name, sync string
		kind       disk.Kind
	}{
		{"with the sync_interval that JetStream has by itself", "2m", disk.Journaled},
		{"on a disk that keeps names only when their folder is synced", syncAlways, disk.Strict},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPowered(t, 1, tc.sync, tc.kind)
			p.cut(p.cluster.Servers...)
			lost := p.lost()
			if lost == 0 {
				t.Errorf("none of %d acknowledged events is lost: the docs say otherwise", p.count())
			}
			t.Logf("%d of %d acknowledged events are lost", lost, p.count())
		})
	}
}
