package bustest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// DedupWindow is how long the key of a publication is remembered, as in package bus.
const DedupWindow = 10 * time.Minute

// errTooLarge says that the log takes no event of that size.
var errTooLarge = errors.New("the event is too large")

// Config says how a Memory behaves. A zero field means what package bus does by itself.
type Config struct {
	Now           func() time.Time // Its clock; nil is the machine's.
	AckWait       time.Duration    // After which work that says nothing is given to another.
	Retry         time.Duration    // After which work that failed comes again.
	LeaseTTL      time.Duration
	HostTTL       time.Duration // Of a heartbeat.
	EventsPerType int           // Of one program; more are refused.
}

// Memory is a model of the bus: the logs, work queues and buckets of one JetStream server, without goroutines of its own. It
// is safe for concurrent use. It is made by NewMemory.
type Memory struct {
	cfg Config

	mu          sync.Mutex
	changed     chan struct{} // Closed, and made anew, whenever something changes.
	ids         []events.ProgramID
	programs    map[events.ProgramID]*program
	wakes       queue
	effects     queue
	checkpoints map[events.ProgramID]saved
	leases      map[string]lease
	beats       map[events.HostID]beat
	drains      map[events.HostID]bool
	deleted     []events.ProgramID
	watchers    map[int]watcher
	nextWatcher int
	published   int
}

// program is one log.
type program struct {
	events  []events.Stored
	last    uint64
	keys    map[string]stamp
	perType map[events.Type]int

	print   uint64 // Of the first printed events: see Fingerprints.
	printed int
}

// stamp is what is remembered of a publication with a key.
type stamp struct {
	seq uint64
	at  time.Time
}

type saved struct {
	cp       reducer.Checkpoint
	readable bool
}

type lease struct {
	holder string
	until  time.Time
}

type beat struct {
	said  events.Heartbeat
	until time.Time
}

type watcher struct {
	id events.ProgramID
	fn func()
}

// NewMemory returns an empty bus.
func NewMemory(cfg Config) *Memory {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.AckWait == 0 {
		cfg.AckWait = 30 * time.Second
	}
	if cfg.Retry == 0 {
		cfg.Retry = 250 * time.Millisecond
	}
	if cfg.LeaseTTL == 0 {
		cfg.LeaseTTL = 45 * time.Second
	}
	if cfg.HostTTL == 0 {
		cfg.HostTTL = 30 * time.Second
	}
	if cfg.EventsPerType == 0 {
		cfg.EventsPerType = 10_000
	}
	return &Memory{
		cfg: cfg, changed: make(chan struct{}),
		programs: map[events.ProgramID]*program{}, checkpoints: map[events.ProgramID]saved{},
		leases: map[string]lease{}, beats: map[events.HostID]beat{}, watchers: map[int]watcher{},
	}
}

// Create makes the log of a program and publishes its first event. Doing it again changes nothing.
func (m *Memory) Create(ctx context.Context, id events.ProgramID, first events.ProgramCreated) error {
	m.mu.Lock()
	if m.programs[id] == nil {
		m.programs[id] = &program{keys: map[string]stamp{}, perType: map[events.Type]int{}}
		at, _ := slices.BinarySearch(m.ids, id)
		m.ids = slices.Insert(m.ids, at, id)
	}
	m.mu.Unlock()
	if _, err := m.Append(ctx, id, first, string(id)+"/created"); err != nil {
		return err
	}
	return m.TakeBackDeletion(ctx, id)
}

// Append publishes an event to the log of its program and returns its sequence.
func (m *Memory) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error) {
	data, err := events.Encode(ev)
	if err != nil {
		return 0, err
	}
	return m.AppendRaw(ctx, id, ev.Type(), data, key)
}

// AppendRaw publishes any bytes under any type, as every client of the bus can.
func (m *Memory) AppendRaw(ctx context.Context, id events.ProgramID, typ events.Type, data []byte, key string) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.programs[id]
	if p == nil {
		return 0, fmt.Errorf("publish %s of %s: %w", typ, id, events.ErrNoProgram)
	}
	now := m.cfg.Now()
	if known, found := p.keys[key]; found && key != "" && now.Sub(known.at) < DedupWindow {
		return known.seq, nil
	}
	switch {
	case len(data) > events.MaxEventBytes:
		return 0, fmt.Errorf("publish %s of %s: %w", typ, id, errTooLarge)
	case p.perType[typ] >= m.cfg.EventsPerType:
		return 0, fmt.Errorf("publish %s of %s: %w", typ, id, events.ErrLogFull)
	}
	p.last++
	p.perType[typ]++
	p.events = append(p.events, events.Stored{Seq: p.last, Time: now, Type: typ, Data: bytes.Clone(data)}.Kept(id))
	if key != "" {
		p.keys[key] = stamp{seq: p.last, at: now}
	}
	m.published++
	m.wakes.replace(message{program: id, seq: p.last})
	m.notify(id)
	return p.last, nil
}

// notify wakes who waits for anything, and the watchers of a program. Watchers only note that there is news.
func (m *Memory) notify(id events.ProgramID) {
	close(m.changed)
	m.changed = make(chan struct{})
	for _, w := range m.watchers {
		if w.id == id {
			w.fn()
		}
	}
}

// Read returns the events of a program after a sequence, as far as the log goes when the iteration begins.
func (m *Memory) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		log, err := m.log(ctx, id)
		if err != nil {
			yield(events.Stored{}, fmt.Errorf("read log of %s: %w", id, err))
			return
		}
		from, _ := slices.BinarySearchFunc(log, after+1, func(s events.Stored, seq uint64) int { return cmp.Compare(s.Seq, seq) })
		for _, stored := range log[from:] {
			if !yield(stored, nil) {
				return
			}
		}
	}
}

func (m *Memory) log(ctx context.Context, id events.ProgramID) ([]events.Stored, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.programs[id]
	if p == nil {
		return nil, events.ErrNoProgram
	}
	return p.events, nil // Only ever appended to.
}

// Heads lists all programs, sorted, and how far their logs go.
func (m *Memory) Heads(ctx context.Context) iter.Seq2[events.Head, error] {
	return func(yield func(events.Head, error) bool) {
		m.mu.Lock()
		heads := make([]events.Head, 0, len(m.ids))
		for _, id := range m.ids {
			head := events.Head{ProgramID: id, Seq: m.programs[id].last}
			if stored := m.programs[id].events; len(stored) > 0 {
				head.Time = stored[len(stored)-1].Time
			}
			heads = append(heads, head)
		}
		m.mu.Unlock()
		if err := ctx.Err(); err != nil {
			yield(events.Head{}, err)
			return
		}
		for _, head := range heads {
			if !yield(head, nil) {
				return
			}
		}
	}
}

// Head says how far the log of a program goes.
func (m *Memory) Head(ctx context.Context, id events.ProgramID) (events.Head, error) {
	log, err := m.log(ctx, id)
	if err != nil {
		return events.Head{}, fmt.Errorf("look up log of %s: %w", id, err)
	}
	head := events.Head{ProgramID: id}
	if n := len(log); n > 0 {
		head.Seq, head.Time = log[n-1].Seq, log[n-1].Time
	}
	return head, nil
}

// Remove deletes a program: its log, its effects that wait, and its checkpoint.
func (m *Memory) Remove(_ context.Context, id events.ProgramID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deleted = append(m.deleted, id)
	delete(m.programs, id)
	m.ids = slices.DeleteFunc(m.ids, func(other events.ProgramID) bool { return other == id })
	m.removeRest(id)
	return nil
}

func (m *Memory) removeRest(id events.ProgramID) {
	delete(m.checkpoints, id)
	m.effects.messages = slices.DeleteFunc(m.effects.messages, func(msg *message) bool { return msg.program == id })
}

// Load returns the checkpoint of a program, and false when there is none that can be read.
func (m *Memory) Load(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, bool, error) {
	if err := ctx.Err(); err != nil {
		return reducer.Checkpoint{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.checkpoints[id]
	return s.cp, s.readable, nil
}

// Save stores a checkpoint, unless the one that is there is of a later sequence; with replace it stores it in any case.
func (m *Memory) Save(ctx context.Context, cp reducer.Checkpoint, replace bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.checkpoints[cp.State.ID]; !old.readable || old.cp.Seq <= cp.Seq || replace {
		m.checkpoints[cp.State.ID] = saved{cp: cp, readable: true}
	}
	return nil
}

// DropCheckpoint removes the checkpoint of a program without a log; one that is gone is fine. Of one that was deleted it removes what
// came late, too, unless the program was created again.
func (m *Memory) DropCheckpoint(ctx context.Context, id events.ProgramID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !slices.Contains(m.deleted, id):
		delete(m.checkpoints, id)
	case m.programs[id] == nil:
		m.removeRest(id)
	}
	return nil
}

// Checkpoints returns the checkpoint of every program of a user, sorted; "" is all users.
func (m *Memory) Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	return func(yield func(reducer.Checkpoint, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(reducer.Checkpoint{}, err)
			return
		}
		for _, cp := range m.readable() {
			if user != "" && cp.State.ID.User() != user {
				continue
			}
			if !yield(cp, nil) {
				return
			}
		}
	}
}

func (m *Memory) readable() []reducer.Checkpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]reducer.Checkpoint, 0, len(m.checkpoints))
	for _, id := range slices.Sorted(maps.Keys(m.checkpoints)) {
		if s := m.checkpoints[id]; s.readable {
			list = append(list, s.cp)
		}
	}
	return list
}

// Lease reports whether holder has the named lease, taking or renewing it where it can.
func (m *Memory) Lease(ctx context.Context, name, holder string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.cfg.Now()
	if l := m.leases[name]; l.holder != holder && now.Before(l.until) {
		return false, nil
	}
	m.leases[name] = lease{holder: holder, until: now.Add(m.cfg.LeaseTTL)}
	return true, nil
}

// Beat stores the heartbeat of a host, until no other follows within the TTL.
func (m *Memory) Beat(ctx context.Context, said events.Heartbeat) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beats[said.HostID] = beat{said: said, until: m.cfg.Now().Add(m.cfg.HostTTL)}
	return nil
}

// Hosts returns the last heartbeat of each host that is there, sorted by ID.
func (m *Memory) Hosts(ctx context.Context) ([]events.Heartbeat, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var hosts []events.Heartbeat
	for _, id := range slices.Sorted(maps.Keys(m.beats)) {
		if m.cfg.Now().Before(m.beats[id].until) {
			hosts = append(hosts, m.beats[id].said)
		}
	}
	return hosts, nil
}

// HostAlive reports whether a host's heartbeat is there.
func (m *Memory) HostAlive(ctx context.Context, host events.HostID) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cfg.Now().Before(m.beats[host].until), nil
}

// PublishEffects publishes the effects of one transition to the queue of their host.
func (m *Memory) PublishEffects(ctx context.Context, msg effects.Message) error {
	subject := events.EffectsSubject(msg.Effects[0].Place().HostID, effects.Class(msg.Effects), msg.ProgramID)
	return m.PublishTrigger(ctx, subject, msg.ProgramID, msg.Seq, msg.Key())
}

// PublishTrigger publishes an effects message to any queue, whatever the log says, as every client of the bus can.
func (m *Memory) PublishTrigger(ctx context.Context, subject string, id events.ProgramID, seq uint64, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	stored, err := m.effects.push(message{subject: subject, program: id, seq: seq, key: key}, m.cfg.Now())
	if err != nil {
		return fmt.Errorf("publish effects %s: %w", effects.Key(id, seq), err)
	}
	if stored {
		m.published++
		m.notify("")
	}
	return nil
}
