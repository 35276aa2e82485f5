package supervisor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	hostsEvery    = 2 * time.Second  // How often heartbeats are looked at.
	programsEvery = 30 * time.Second // How often all programs are looked at, though no host is newly gone.
	maxLosses     = 100              // Of a host in one attempt of a program, within the time that keys are remembered.
	withdrawShare = 6                // Withdrawing takes at most this part of a TTL: 5 s of the usual 30 s.
)

// HostBus is what a HostWatch needs of the bus; package bus documents the methods.
type HostBus interface {
	Hosts(ctx context.Context) ([]events.Heartbeat, error)
	HostAlive(ctx context.Context, host events.HostID) (bool, error)
	Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error]
	Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error)
	Withdraw(ctx context.Context, host events.HostID, before map[events.ProgramID]uint64) (int, error)
	Reconnected(ctx context.Context) <-chan struct{}
}

// HostWatch appends HostLost to the programs of hosts that send no heartbeat any more, and withdraws the effects that wait for them
// there. Every supervisor has one, and what several see at once is stored once, by its key. It is safe for concurrent use.
//
// A heartbeat that is not there proves nothing while nobody could send one: for one TTL after its start, and after each
// reconnect, a watch declares nobody lost. It may look before it is told of a reconnect, or have been frozen itself: a long time between
// two looks counts as such. Nor does the list of heartbeats prove anything: it may come from a copy of the bucket that lags, or in
// which all have just expired because its server was frozen. So the leader is asked about each host that is missing.
type HostWatch struct {
	bus HostBus
	ttl time.Duration
	log *slog.Logger

	mu         sync.Mutex // Never held during a call to the bus, which may hang.
	blindUntil time.Time
	lastLook   time.Time // That was answered.
	lastScan   time.Time
	present    map[events.HostID]bool                        // At the last look; nil before the first.
	obsolete   map[events.HostID]map[events.ProgramID]uint64 // Effects to withdraw: those of events before that of the loss.
}

// NewHostWatch returns a watch. ttl is how long a heartbeat lasts; now is when the watch begins.
func NewHostWatch(bus HostBus, ttl time.Duration, log *slog.Logger, now time.Time) *HostWatch {
	return &HostWatch{
		bus: bus, ttl: ttl, log: log, blindUntil: now.Add(ttl), lastLook: now, obsolete: map[events.HostID]map[events.ProgramID]uint64{},
	}
}

// Run looks every few seconds until ctx ends.
func (w *HostWatch) Run(ctx context.Context) {
	reconnected := w.bus.Reconnected(ctx)
	ticker := time.NewTicker(hostsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			for range reconnected { // Closed by its owner, which has then ended.
			}
			return
		case <-reconnected:
			w.Blind(time.Now())
		case <-ticker.C:
			if _, err := w.Look(ctx, time.Now()); err != nil && ctx.Err() == nil {
				w.log.Warn("cannot look after the hosts", "error", err)
			}
		}
	}
}

// Blind says that heartbeats may not have come through until now.
func (w *HostWatch) Blind(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blindUntil = now.Add(w.ttl)
}

// Look compares the hosts that are there with those that programs are on, and returns how many programs it found on a host that
// is lost.
func (w *HostWatch) Look(ctx context.Context, now time.Time) (int, error) {
	beats, err := w.bus.Hosts(ctx)
	if err != nil {
		w.Blind(now) // Nothing is known, so nothing is concluded.
		return 0, err
	}
	scan, blind := w.see(beats, now)
	if blind {
		return 0, nil
	}
	found := 0
	if scan {
		if found, err = w.declareAll(ctx); err != nil {
			w.scanAgain()
		}
	}
	return found, errors.Join(err, w.withdraw(ctx))
}

// see takes the result of a look, and says whether all programs are to be looked at, or nothing may be concluded yet.
func (w *HostWatch) see(beats []events.Heartbeat, now time.Time) (scan, blind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.lastLook) > w.ttl/2 {
		w.blindUntil = now.Add(w.ttl)
	}
	w.lastLook = now
	before := w.present
	w.present = make(map[events.HostID]bool, len(beats))
	for _, beat := range beats {
		w.present[beat.HostID] = true
	}
	if now.Before(w.blindUntil) {
		w.lastScan = time.Time{} // Hosts that go meanwhile are not newly gone afterwards.
		return false, true
	}
	if !w.newlyGone(before) && now.Sub(w.lastScan) < programsEvery {
		return false, false
	}
	w.lastScan = now
	return true, false
}

// scanAgain lets the next look be one at all programs.
func (w *HostWatch) scanAgain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastScan = time.Time{}
}

// Check is Look for one program: one that was asked to start on a host which was lost long ago need not wait for it.
func (w *HostWatch) Check(ctx context.Context, cp reducer.Checkpoint, now time.Time) error {
	if w.mayBeBack(cp.State.HostID, now) {
		return nil
	}
	lost, err := w.isLost(ctx, cp.State)
	if err != nil || !lost {
		return err
	}
	return errors.Join(w.declare(ctx, cp), w.withdraw(ctx))
}

// mayBeBack reports whether nothing may be concluded yet of a host. One that was lost at the last look may be back since: the leader is
// asked again.
func (w *HostWatch) mayBeBack(host events.HostID, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.present == nil || now.Before(w.blindUntil) || now.Sub(w.lastLook) > w.ttl/2 {
		return true
	}
	if !w.present[host] {
		delete(w.present, host)
	}
	return false
}

func (w *HostWatch) newlyGone(before map[events.HostID]bool) bool {
	for host, there := range before {
		if there && !w.present[host] {
			return true
		}
	}
	return false
}

// declareAll appends HostLost to each program that is not at rest and on a host that is not there.
func (w *HostWatch) declareAll(ctx context.Context) (int, error) {
	found := 0
	var failures []error
	for cp, err := range w.bus.Checkpoints(ctx, "") {
		lost := false
		if err == nil {
			lost, err = w.isLost(ctx, cp.State)
		}
		if err != nil {
			return found, errors.Join(append(failures, err)...)
		}
		if lost {
			found++
			failures = append(failures, w.declare(ctx, cp))
		}
	}
	return found, errors.Join(failures...)
}

// isLost reports whether a program waits for, or runs on, a host that is not there. The leader is asked once a look and host.
func (w *HostWatch) isLost(ctx context.Context, s reducer.ProgramState) (bool, error) {
	if s.HostID == "" || !s.State.NeedsHost() {
		return false, nil
	}
	if alive, asked := w.known(s.HostID); asked {
		return !alive, nil
	}
	alive, err := w.bus.HostAlive(ctx, s.HostID)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.present[s.HostID] = alive
	if !alive {
		w.log.Warn("a host is lost: it sends no heartbeat any more", "host", s.HostID)
	}
	return !alive, nil
}

func (w *HostWatch) known(host events.HostID) (alive, asked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	alive, asked = w.present[host]
	return alive, asked
}

func (w *HostWatch) declare(ctx context.Context, cp reducer.Checkpoint) error {
	s := cp.State
	seq, err := w.appendLoss(ctx, cp)
	switch {
	case errors.Is(err, events.ErrNoProgram):
		return nil
	case errors.Is(err, events.ErrLogFull): // An error would make every look one at all programs, for ever.
		w.log.Error("cannot say that a program's host is lost: the program can only be deleted", "program", s.ID, "host", s.HostID, "error", err)
		return nil
	case err != nil:
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.obsolete[s.HostID] == nil {
		w.obsolete[s.HostID] = map[events.ProgramID]uint64{}
	}
	w.obsolete[s.HostID][s.ID] = seq
	return nil
}

// appendLoss appends HostLost and returns its sequence. It is stored once for each attempt: the next one may be on the same host again. But
// it may have been said before for nothing, by somebody whose checkpoint lagged, and the program wait for the host only since. Then the bus
// knows the key, and answers with a loss that came before what the checkpoint has: it is said again, once for that loss.
func (w *HostWatch) appendLoss(ctx context.Context, cp reducer.Checkpoint) (uint64, error) {
	s := cp.State
	lost := events.HostLost{HostID: s.HostID, Reason: fmt.Sprintf("no heartbeat for %s", w.ttl)}
	key := fmt.Sprintf("%s/lost/%s/%d", s.ID, s.HostID, s.Attempt)
	seq, err := w.bus.Append(ctx, s.ID, lost, key)
	for again := 0; err == nil && seq < cp.Seq && again < maxLosses; again++ {
		seq, err = w.bus.Append(ctx, s.ID, lost, fmt.Sprintf("%s/%d", key, seq))
	}
	return seq, err
}

// withdraw takes back what waits for lost hosts. It is tried again until it succeeds; what stays nevertheless, for instance when this
// process ends before, is dropped by whoever takes it, since the log does not await it. If nobody ever does it is little: at most
// effects.MaxWaiting messages of a program in each queue of the host, until the program is deleted.
//
// It goes on past a host that fails, and one bound holds for all together: a watch that does not look for half a TTL is blind for a whole
// one. All queues are of one stream, so a host that takes all the time keeps from the others nothing that they would have got.
func (w *HostWatch) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.ttl/withdrawShare)
	defer cancel()
	obsolete := w.takeObsolete()
	var failures []error
	for _, host := range slices.Sorted(maps.Keys(obsolete)) {
		n, err := 0, ctx.Err()
		if err == nil {
			n, err = w.bus.Withdraw(ctx, host, obsolete[host])
		}
		if err != nil {
			w.putBack(host, obsolete[host])
			failures = append(failures, err)
			continue
		}
		if n > 0 {
			w.log.Info("withdrew effects that waited for a lost host", "host", host, "messages", n)
		}
	}
	return errors.Join(failures...)
}

// takeObsolete takes all that is to be withdrawn: what comes meanwhile is for the next look.
func (w *HostWatch) takeObsolete() map[events.HostID]map[events.ProgramID]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	obsolete := w.obsolete
	w.obsolete = map[events.HostID]map[events.ProgramID]uint64{}
	return obsolete
}

// putBack undoes takeObsolete for one host; of two losses of a program the later one counts.
func (w *HostWatch) putBack(host events.HostID, before map[events.ProgramID]uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, seq := range w.obsolete[host] {
		before[id] = max(before[id], seq)
	}
	w.obsolete[host] = before
}
