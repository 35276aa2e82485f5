package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Bounds of what the bus holds.
const (
	maxEventsPerType = 10_000                 // Events of one type of one program; more are refused, of that type only.
	dedupWindow      = 10 * time.Minute       // How long a Nats-Msg-Id is remembered.
	wakeDedupWindow  = 100 * time.Millisecond // The least that the server takes; see Wakes.
	maxOutputBytes   = 1 << 30                // Output of all programs.
	maxOutputMsgs    = 10_000                 // Chunks of one output of one program, of up to 32 KiB.
	maxOutputAge     = 7 * 24 * time.Hour
	hostTTL          = 30 * time.Second // A host that says nothing for so long is lost.
	hostMarkerTTL    = 10 * time.Minute // How long watchers can see that it was.
	leaseTTL         = 45 * time.Second
	deletedTTL       = 180 * 24 * time.Hour // A host that is away for longer keeps what it has of programs deleted meanwhile.
	maxSourceBytes   = 4 << 30              // All source tarballs. The server reserves it, so a small disk must have it.
	maxUploadBytes   = 4 << 30              // Chunks of all uploads that are not complete.
	maxUploadAge     = time.Hour
	apiTimeout       = 10 * time.Second
)

// Options are what operators choose.
type Options struct {
	Replicas int           // Copies of every stream, 1 or 3; 0 is 1.
	HostTTL  time.Duration // How long a host may say nothing; 0 is 30 s.
	// EventsPerType is how many events of one type a program that is created from now on takes in its life; 0 is 10,000.
	EventsPerType int64
	Bind          bool // Somebody else provisions: Provision only looks, and an executor asks for its queues.
}

// Bus is a connection to the bus. It is safe for concurrent use.
type Bus struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	layout Layout
	opts   Options
	timing timing
	lease  time.Duration // How long a lease that is not renewed lasts.
	log    *slog.Logger

	missedBeats atomic.Int32 // Heartbeats in a row that could not be stored.
	own         ownBeat
}

// New returns the bus on a connection, which stays the caller's to close. Nothing is created before Provision.
func New(nc *nats.Conn, log *slog.Logger, opts Options) (*Bus, error) {
	if opts.Replicas == 0 {
		opts.Replicas = 1
	}
	if opts.HostTTL == 0 {
		opts.HostTTL = hostTTL
	}
	if opts.EventsPerType == 0 {
		opts.EventsPerType = maxEventsPerType
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return &Bus{nc: nc, js: js, layout: newPerProgram(js, opts), opts: opts, timing: usualTiming(), lease: leaseTTL, log: log}, nil
}

// Provision creates the streams and buckets that are shared by all programs, or brings those that exist up to date. It is
// idempotent, and safe to call from many processes at once.
func (b *Bus) Provision(ctx context.Context) error {
	if b.opts.Bind {
		return b.provisioned(ctx)
	}
	if err := b.formerEffectsFit(ctx); err != nil {
		return err
	}
	for _, cfg := range []jetstream.StreamConfig{b.wakeStream(), b.effectsStream(), b.outputStream(), b.uploadsStream()} {
		if _, err := b.js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("provision stream %s: %w", cfg.Name, err)
		}
	}
	for _, cfg := range b.buckets() {
		if _, err := b.js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
			return fmt.Errorf("provision bucket %s: %w", cfg.Bucket, err)
		}
	}
	if err := b.MakeQueues(ctx, ""); err != nil {
		return err
	}
	if err := b.updateQueues(ctx); err != nil {
		return err
	}
	_, err := b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: events.BucketSources, Description: "source tarballs, written once",
		Replicas: b.opts.Replicas, MaxBytes: maxSourceBytes,
	})
	if err != nil {
		return fmt.Errorf("provision bucket %s: %w", events.BucketSources, err)
	}
	return nil
}

// formerEffectsFit refuses an upgrade that would lose effects: the server drops, of each former subject, which held those of all programs,
// the oldest beyond the bound that is new.
func (b *Bus) formerEffectsFit(ctx context.Context) error {
	stream, err := b.js.Stream(ctx, events.StreamEffects)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	var info *jetstream.StreamInfo
	if err == nil {
		info, err = stream.Info(ctx, jetstream.WithSubjectFilter(events.FormerEffectsSubject("*", "*")))
	}
	if err != nil {
		return fmt.Errorf("look for effects of a former version: %w", err)
	}
	for subject, waiting := range info.State.Subjects {
		if waiting > effects.MaxWaiting {
			return fmt.Errorf("%d effects of a former version wait in %s, and this version keeps %d: let executors of the former version take them first", waiting, subject, effects.MaxWaiting)
		}
	}
	return nil
}

// provisioned reports what of Provision is missing. HERSH_WAKE is in memory, and made again by whoever takes from it.
func (b *Bus) provisioned(ctx context.Context) error {
	names := []string{events.StreamEffects, events.StreamLogs, events.StreamUploads, "OBJ_" + events.BucketSources}
	for _, cfg := range b.buckets() {
		names = append(names, "KV_"+cfg.Bucket)
	}
	for _, name := range names {
		if _, err := b.js.Stream(ctx, name); err != nil {
			return fmt.Errorf("look for %s, which `hersh tenants provision` makes: %w", name, err)
		}
	}
	return nil
}

func (b *Bus) uploadsStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: events.StreamUploads, Description: "chunks of uploads that are not complete",
		Subjects: []string{events.UploadSubjects("*")}, Storage: jetstream.FileStorage,
		MaxBytes: maxUploadBytes, MaxAge: maxUploadAge, Discard: jetstream.DiscardNew,
		AllowDirect: true, Replicas: b.opts.Replicas, Duplicates: maxUploadAge,
	}
}

func (b *Bus) wakeStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: events.StreamWake, Description: "wake-ups: at most one a program",
		Subjects:         []string{events.SubjectsFeed},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: events.SubjectsFeed, Destination: events.TransformWake},
		Retention:        jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardOld,
		Replicas: b.opts.Replicas, Duplicates: wakeDedupWindow,
	}
}

func (b *Bus) effectsStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: events.StreamEffects, Description: "effects that hosts are to run",
		Subjects:  []string{events.SubjectsEffects},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		// Of each program by itself: a bound that all share would let the builds of one, which no host takes, shut out everybody's stops.
		MaxMsgsPerSubject: effects.MaxWaiting, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		Replicas: b.opts.Replicas, Duplicates: dedupWindow,
	}
}

func (b *Bus) outputStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: events.StreamLogs, Description: "what builds and programs print",
		Subjects: []string{events.SubjectsLogs}, Storage: jetstream.FileStorage,
		MaxBytes: maxOutputBytes, MaxAge: maxOutputAge, MaxMsgsPerSubject: maxOutputMsgs, Discard: jetstream.DiscardOld,
		AllowDirect: true, Replicas: b.opts.Replicas, Duplicates: dedupWindow,
	}
}

func (b *Bus) buckets() []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{
		{Bucket: events.BucketPrograms, Description: "checkpoints: the read model, a cache of the logs", Replicas: b.opts.Replicas},
		{Bucket: events.BucketHosts, Description: "heartbeats of executors", TTL: b.opts.HostTTL, LimitMarkerTTL: hostMarkerTTL, Replicas: b.opts.Replicas},
		{Bucket: events.BucketDrains, Description: "hosts that are to take no new program", Replicas: b.opts.Replicas},
		{Bucket: events.BucketDeleted, Description: "programs that were deleted, for hosts to remove what they have of them", TTL: deletedTTL, Replicas: b.opts.Replicas},
		{Bucket: events.BucketLeases, Description: "who does what only one needs to do", TTL: b.lease, LimitMarkerTTL: b.lease, Replicas: b.opts.Replicas},
	}
}

// Reconnected returns a channel that gets a value each time the connection is back, until ctx ends.
func (b *Bus) Reconnected(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	states := b.nc.StatusChanged(nats.CONNECTED)
	go func() {
		defer close(out)
		defer b.nc.RemoveStatusListener(states)
		for {
			select {
			case <-ctx.Done():
				return
			case _, open := <-states:
				if !open {
					return
				}
				select {
				case out <- struct{}{}:
				default: // One is waiting already.
				}
			}
		}
	}()
	return out
}

// Ping reports whether the bus answers, JetStream included.
func (b *Bus) Ping(ctx context.Context) error {
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("ask NATS for JetStream: %w", err)
	}
	return nil
}
