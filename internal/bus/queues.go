package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

// directBuffer is how many wake-ups may wait outside of HERSH_WAKE; the sweep finds what does not fit.
const directBuffer = 1024

// wakeAckWait is how long a wake-up that nobody speaks for stays with a supervisor that may be dead. Reconciling twice costs little,
// and a program waits for it.
const wakeAckWait = 10 * time.Second

// timing is how long the server and the workers of a queue may take to be heard of. Tests shorten it.
type timing struct {
	ackWait       time.Duration // Work that says nothing for so long is given to another.
	progressEvery time.Duration // How often work in hand says that it goes on.
	pullWait      time.Duration // One pull; also how long a shutdown may wait for one.
	drainWait     time.Duration // How long work in hand may go on after the end was asked for.
	answerWait    time.Duration // Until the server says that it knows that work was handed back. A shutdown may wait for that too.
	minRetry      time.Duration // Before work that failed comes again, for the first time.
	maxRetry      time.Duration
	elsewhere     time.Duration // Before work comes again that is left to another host.
}

func usualTiming() timing {
	return timing{
		ackWait: 30 * time.Second, progressEvery: 3 * time.Second, pullWait: time.Second, drainWait: 10 * time.Second,
		answerWait: 2 * time.Second, minRetry: 250 * time.Millisecond, maxRetry: 30 * time.Second,
		elsewhere: time.Second,
	}
}

// PublishEffects publishes the effects of one transition to the queue of their host. Doing it again within some minutes
// changes nothing. Where too many of the program wait there already it is effects.ErrBacklog.
func (b *Bus) PublishEffects(ctx context.Context, m effects.Message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("publish effects %s: %w", m.Key(), err)
	}
	msg := nats.NewMsg(events.EffectsSubject(m.Effects[0].Place().HostID, effects.Class(m.Effects), m.ProgramID))
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, m.Key())
	if _, err := b.publish(ctx, msg, never, effects.ErrBacklog); err != nil {
		return fmt.Errorf("publish effects %s: %w", m.Key(), err)
	}
	return nil
}

// Withdraw removes, from the queues of a host, the messages of programs whose effects were decided by an event before the given one,
// and returns how many there were. It goes by the word of the stream's leader.
func (b *Bus) Withdraw(ctx context.Context, host events.HostID, before map[events.ProgramID]uint64) (int, error) {
	bounds := map[string]uint64{}
	for id, bound := range before {
		for _, class := range []events.Class{events.ClassBuild, events.ClassRun} {
			bounds[events.EffectsSubject(host, class, id)] = bound
		}
	}
	withdrawn, err := b.withdraw(ctx, events.EffectsSubjects(host, "*"), func(subject string) uint64 { return bounds[subject] })
	if err != nil {
		return withdrawn, fmt.Errorf("withdraw effects of host %s: %w", host, err)
	}
	return withdrawn, nil
}

// withdraw removes messages whose effects were decided by an event before the bound of their subject. What is published meanwhile is not
// looked at.
func (b *Bus) withdraw(ctx context.Context, subjects string, before func(subject string) uint64) (int, error) {
	stream, err := b.js.Stream(ctx, events.StreamEffects)
	if err != nil {
		return 0, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subjects))
	if err != nil {
		return 0, err
	}
	withdrawn := 0
	for subject := range info.State.Subjects {
		bound := before(subject)
		if bound == 0 {
			continue
		}
		n, err := withdrawBefore(ctx, stream, subject, bound)
		withdrawn += n
		if err != nil {
			return withdrawn, err
		}
	}
	return withdrawn, nil
}

// withdrawBefore goes through the messages of one subject, of which the stream takes few.
func withdrawBefore(ctx context.Context, stream jetstream.Stream, subject string, bound uint64) (int, error) {
	withdrawn := 0
	for seq, last := uint64(1), stream.CachedInfo().State.LastSeq; seq <= last; seq++ {
		msg, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return withdrawn, nil
		}
		if err != nil {
			return withdrawn, err
		}
		seq = msg.Sequence
		if _, decided, err := effects.ParseTrigger(msg.Data); err != nil || decided >= bound {
			continue
		}
		if err := stream.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return withdrawn, err
		}
		withdrawn++
	}
	return withdrawn, nil
}

// Effects hands the effect messages of one queue ("" is that of any host) to workers until ctx ends; it returns when all are
// done. Work that returns an error comes again later, here or elsewhere. The context of work in hand ends some seconds after
// ctx. While open reports false nothing is taken; nil is always open.
func (b *Bus) Effects(ctx context.Context, host events.HostID, class events.Class, workers int, open func() bool, handle func(ctx context.Context, id events.ProgramID, seq uint64) error) error {
	name := events.EffectsQueue(host, class)
	consumer := func(ctx context.Context) (jetstream.Consumer, error) { return b.openEffects(ctx, host, class) }
	return b.consume(ctx, name, consumer, open, workers, func(ctx context.Context, msg jetstream.Msg) error {
		id, seq, err := effects.ParseTrigger(msg.Data())
		if err != nil {
			b.log.Warn("dropped an effects message that cannot be read", "subject", msg.Subject(), "error", err)
			return nil
		}
		return handle(ctx, id, seq)
	})
}

// openEffects makes the consumer of a queue of effects, or takes the one that is there where this user may make none.
func (b *Bus) openEffects(ctx context.Context, host events.HostID, class events.Class) (jetstream.Consumer, error) {
	if !b.opts.Bind {
		return b.js.CreateOrUpdateConsumer(ctx, events.StreamEffects, b.queueConfig(host, class))
	}
	name := events.EffectsQueue(host, class)
	consumer, err := b.js.Consumer(ctx, events.StreamEffects, name)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) || host == "" {
		return consumer, err
	}
	if err := b.register(ctx, host); err != nil {
		return nil, err
	}
	return b.js.Consumer(ctx, events.StreamEffects, name)
}

// MakeQueues makes the queues of a host, for its executor to take from; "" makes those of any host.
func (b *Bus) MakeQueues(ctx context.Context, host events.HostID) error {
	for _, class := range []events.Class{events.ClassBuild, events.ClassRun} {
		cfg := b.queueConfig(host, class)
		if _, err := b.js.CreateOrUpdateConsumer(ctx, events.StreamEffects, cfg); err != nil {
			return fmt.Errorf("make queue %s: %w", cfg.Durable, err)
		}
	}
	return nil
}

// updateQueues brings the queues that are there up to date, those of hosts too: an executor that may make none takes what is there as it
// is, and what filters former subjects would give it nothing.
func (b *Bus) updateQueues(ctx context.Context) error {
	stream, err := b.js.Stream(ctx, events.StreamEffects)
	if err != nil {
		return fmt.Errorf("look for queues to update: %w", err)
	}
	var outdated []events.HostID
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		host, class, err := events.ParseEffectsQueue(info.Name)
		if err == nil && !slices.Equal(info.Config.FilterSubjects, b.queueConfig(host, class).FilterSubjects) {
			outdated = append(outdated, host)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("look for queues to update: %w", err)
	}
	for _, host := range outdated {
		if err := b.MakeQueues(ctx, host); err != nil {
			return err
		}
	}
	return nil
}

// register asks a supervisor for the queues of a host.
func (b *Bus) register(ctx context.Context, host events.HostID) error {
	data, err := json.Marshal(map[string]events.HostID{"hostId": host})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	answer, err := b.nc.RequestWithContext(ctx, events.SubjectHostsRegister, data)
	if err == nil && answer.Header.Get(micro.ErrorHeader) != "" {
		err = errors.New(answer.Header.Get(micro.ErrorHeader))
	}
	if err != nil {
		return fmt.Errorf("register host %s: %w", host, err)
	}
	return nil
}

// Wakes hands wake-ups to workers until ctx ends; it returns when all are done. seq is an event that the log is known to hold.
//
// Messages that bring headers of their own to HERSH_WAKE can be refused there: the server republishes an event with its
// headers, and a stream acts on Nats-Msg-Id and Nats-Expected-*. Those wake-ups are taken from the live feed instead.
func (b *Bus) Wakes(ctx context.Context, workers int, handle func(ctx context.Context, id events.ProgramID, seq uint64) error) error {
	open := func(ctx context.Context) (jetstream.Consumer, error) {
		// The stream is in memory: a server that restarted has lost it.
		if _, err := b.js.CreateOrUpdateStream(ctx, b.wakeStream()); err != nil {
			return nil, err
		}
		cfg := b.consumerConfig("supervisors")
		cfg.AckWait = min(cfg.AckWait, wakeAckWait)
		return b.js.CreateOrUpdateConsumer(ctx, events.StreamWake, cfg)
	}
	var direct sync.WaitGroup
	defer direct.Wait()
	feed := make(chan *nats.Msg, directBuffer)
	sub, err := b.nc.ChanQueueSubscribe(events.SubjectsFeed, "supervisors", feed)
	if err != nil {
		return fmt.Errorf("subscribe to the live feed: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // Fails only on a closed connection, which has none.
	direct.Go(func() { b.wakeDirectly(ctx, feed, handle) })

	return b.consume(ctx, "wake-ups", open, nil, workers, func(ctx context.Context, msg jetstream.Msg) error {
		id, err := events.ParseWakeSubject(msg.Subject())
		if err != nil {
			b.log.Warn("dropped a wake-up that cannot be read", "subject", msg.Subject(), "error", err)
			return nil
		}
		return handle(ctx, id, headerSeq(msg.Headers()))
	})
}

func (b *Bus) wakeDirectly(ctx context.Context, feed <-chan *nats.Msg, handle func(context.Context, events.ProgramID, uint64) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-feed:
			id, _, err := events.ParseFeedSubject(msg.Subject)
			if err != nil || isWhole(msg.Header, headerBytes(msg)) && !mayMissWake(id, msg.Header) {
				continue
			}
			if err := handle(ctx, id, headerSeq(msg.Header)); err != nil && ctx.Err() == nil {
				b.log.Warn("a wake-up failed; the sweep will find it", "program", id, "error", err)
			}
		}
	}
}

// mayMissWake reports whether HERSH_WAKE may have refused a republished event for its headers. Keys that Hersh makes begin with
// the program and meet no other program's.
func mayMissWake(id events.ProgramID, header nats.Header) bool {
	for name, values := range header {
		switch {
		case strings.EqualFold(name, jetstream.MsgIDHeader):
			if !strings.HasPrefix(values[0], string(id)+"/") {
				return true
			}
		case isRepublishHeader(name):
		case len(name) > 5 && strings.EqualFold(name[:5], "Nats-"):
			return true
		}
	}
	return false
}

func isRepublishHeader(name string) bool {
	switch name {
	case jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer, "Nats-Last-Sequence":
		return true
	}
	return false
}

// headerSeq returns the sequence of a republished event, 0 where it cannot be read. It is a hint: a publisher may have made it up.
func headerSeq(header nats.Header) uint64 {
	seq, err := strconv.ParseUint(last(header, jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

func (b *Bus) queueConfig(host events.HostID, class events.Class) jetstream.ConsumerConfig {
	return b.consumerConfig(events.EffectsQueue(host, class), events.EffectsSubjects(host, class), events.FormerEffectsSubject(host, class))
}

func (b *Bus) consumerConfig(name string, filters ...string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: name, FilterSubjects: filters,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: b.timing.ackWait, MaxDeliver: -1, MaxAckPending: 10_000,
	}
}

// consume runs workers on a consumer until ctx ends. Each pulls one message at a time, since the server counts the time that a
// message waits in a client too. None pulls while ready reports false; nil is always ready.
func (b *Bus) consume(ctx context.Context, name string, open func(context.Context) (jetstream.Consumer, error), ready func() bool, workers int, handle func(context.Context, jetstream.Msg) error) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(b.timing.drainWait, cancel)
		context.AfterFunc(work, func() { timer.Stop() })
	})
	defer stop()
	var group sync.WaitGroup
	for range workers {
		group.Go(func() { b.worker(ctx, work, name, open, ready, handle) })
	}
	group.Wait()
	return ctx.Err()
}

func (b *Bus) worker(ctx, work context.Context, name string, open func(context.Context) (jetstream.Consumer, error), ready func() bool, handle func(context.Context, jetstream.Msg) error) {
	var consumer jetstream.Consumer
	failures := 0
	for ctx.Err() == nil {
		if ready != nil && !ready() {
			pause.For(ctx, b.timing.minRetry)
			continue
		}
		var msg jetstream.Msg
		var err error
		if consumer == nil {
			consumer, err = open(ctx)
		}
		if err == nil {
			msg, err = consumer.Next(jetstream.FetchMaxWait(b.timing.pullWait))
		}
		switch {
		case err == nil:
			failures = 0
			b.attend(ctx, work, msg, handle)
		case consumer != nil && (errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages) || errors.Is(err, context.DeadlineExceeded)):
			failures = 0 // There is no work. Where the queue could not even be opened in time, nothing is known of that.
		default:
			consumer = nil // It may be gone: a memory stream after a restart of the server, or one that was deleted.
			if failures++; failures == 1 && ctx.Err() == nil {
				b.log.Warn("cannot take work, trying again", "queue", name, "error", err)
			}
			pause.For(ctx, b.timing.backoff(failures))
		}
	}
}

// attend does one piece of work and answers the server: done, or again later.
func (b *Bus) attend(ctx, work context.Context, msg jetstream.Msg, handle func(context.Context, jetstream.Msg) error) {
	stop := keepInProgress(work, msg, b.timing.progressEvery)
	err := handle(work, msg)
	stop()
	if err == nil {
		err = msg.Ack()
		if err != nil {
			b.log.Warn("could not acknowledge work; it will come again", "subject", msg.Subject(), "error", err)
		}
		return
	}
	// Work that is handed back at the end is for somebody else, at once. The server keeps only a delay on its disk: without one it would
	// forget, when it ends too, that the work came back, and nobody would get it for the rest of the ack wait.
	delay := time.Millisecond
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, effects.ErrElsewhere):
		b.log.Info("work is handed back", "subject", msg.Subject(), "reason", err)
		delay = b.timing.elsewhere
	default:
		b.log.Warn("work failed; it will come again", "subject", msg.Subject(), "error", err)
		delay = b.timing.backoff(deliveries(msg))
	}
	if err := b.handBack(work, msg, delay); err != nil {
		b.log.Warn("could not hand work back; it will come again", "subject", msg.Subject(), "error", err)
	}
}

// handBack lets work come again after a delay, and waits for the server's word that it will, also where ctx has ended: a server that ends at the same
// time would forget what it has not taken in yet. The client library does not wait for the answer to a message like this.
func (b *Bus) handBack(ctx context.Context, msg jetstream.Msg, delay time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.timing.answerWait)
	defer cancel()
	_, err := b.nc.RequestWithContext(ctx, msg.Reply(), fmt.Appendf(nil, `-NAK {"delay": %d}`, delay))
	return err
}

// keepInProgress tells the server that the work goes on, until the returned function is called.
func keepInProgress(ctx context.Context, msg jetstream.Msg, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_ = msg.InProgress() // While NATS is away the message may be given to another, which every effect bears.
			}
		}
	})
	return func() { cancel(); group.Wait() }
}

func deliveries(msg jetstream.Msg) int {
	meta, err := msg.Metadata()
	if err != nil {
		return 1
	}
	return int(min(meta.NumDelivered, 32))
}

// backoff doubles from minRetry to maxRetry with the number of failures, from 1 on.
func (t timing) backoff(failures int) time.Duration {
	return min(t.minRetry<<min(failures-1, 10), t.maxRetry)
}
