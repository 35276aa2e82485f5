package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Layout says which stream holds a program. Everything else reads and writes a program by its subjects, so that pooled streams
// are a second implementation of this and nothing more.
type Layout interface {
	// Stream names the stream that holds the program.
	Stream(id events.ProgramID) string
	// MakeRoom makes sure that the program's events are stored from now on.
	MakeRoom(ctx context.Context, id events.ProgramID) error
	// Exists reports whether there is a log of the program, by the word of the server's meta layer.
	Exists(ctx context.Context, id events.ProgramID) (bool, error)
	// Head says how far the log of the program goes, by the word of its leader; events.ErrNoProgram says that there is no log,
	// events.ErrNoLeader that nobody can say now.
	Head(ctx context.Context, id events.ProgramID) (events.Head, error)
	// Heads lists all programs and how far their logs go. While a leader is elected, that of its log may come from a copy that lags.
	Heads(ctx context.Context) iter.Seq2[events.Head, error]
	// Programs lists the programs of a user, by the word of the server's meta layer.
	Programs(ctx context.Context, user events.UserID) ([]events.ProgramID, error)
	// Remove deletes the log of the program. One that is gone is fine.
	Remove(ctx context.Context, id events.ProgramID) error
}

// perProgram is the layout of one stream per program.
type perProgram struct {
	js            jetstream.JetStream
	replicas      int
	eventsPerType int64 // More of one program are refused, of that type only.
}

func newPerProgram(js jetstream.JetStream, o Options) perProgram {
	return perProgram{js: js, replicas: o.Replicas, eventsPerType: o.EventsPerType}
}

func (l perProgram) Stream(id events.ProgramID) string { return events.ProgramStream(id) }

func (l perProgram) MakeRoom(ctx context.Context, id events.ProgramID) error {
	_, err := l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: l.Stream(id), Subjects: []string{events.EventSubjects(id)},
		Storage: jetstream.FileStorage, Replicas: l.replicas,
		MaxMsgSize:        events.MaxEventBytes,
		MaxMsgsPerSubject: l.eventsPerType, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, Duplicates: dedupWindow,
		RePublish: &jetstream.RePublish{Source: events.EventSubjects(id), Destination: events.FeedSubject(id, "{{wildcard(1)}}")},
	})
	if err != nil {
		return fmt.Errorf("create stream %s: %w", l.Stream(id), err)
	}
	return nil
}

func (l perProgram) Exists(ctx context.Context, id events.ProgramID) (bool, error) {
	_, err := l.look(ctx, id)
	if errors.Is(err, events.ErrNoProgram) {
		return false, nil
	}
	return err == nil, err
}

func (l perProgram) Head(ctx context.Context, id events.ProgramID) (events.Head, error) {
	info, err := l.look(ctx, id)
	if err == nil && !fromLeader(info.Cluster) {
		err = fmt.Errorf("look up stream %s: %w", l.Stream(id), events.ErrNoLeader)
	}
	if err != nil {
		return events.Head{}, err
	}
	return headOf(id, info), nil
}

// look asks for the stream of a program, for a short time only: a leader that is silent must not hold up whoever asks.
func (l perProgram) look(ctx context.Context, id events.ProgramID) (*jetstream.StreamInfo, error) {
	asking, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	stream, err := l.js.Stream(asking, l.Stream(id))
	switch {
	case err == nil:
		return stream.CachedInfo(), nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = events.ErrNoProgram
	case asking.Err() != nil && ctx.Err() == nil:
		err = fmt.Errorf("%w: %w", events.ErrNoLeader, err)
	}
	return nil, fmt.Errorf("look up stream %s: %w", l.Stream(id), err)
}

// fromLeader reports whether it was the leader that answered. A server answers for a stream when it leads it, and otherwise only when it
// knows of no leader, which it then names none, or when the group is so new that the one that is preferred answers before it leads. A
// server never lists itself beside the leader that it names, so a leader in the list is another than the one that answered. A stream
// that has no copies, on a single server or in a cluster, is led by the server that has it.
func fromLeader(c *jetstream.ClusterInfo) bool {
	return c == nil || c.Leader != "" && !slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == c.Leader })
}

func headOf(id events.ProgramID, info *jetstream.StreamInfo) events.Head {
	return events.Head{ProgramID: id, Seq: info.State.LastSeq, Time: info.State.LastTime}
}

func (l perProgram) Heads(ctx context.Context) iter.Seq2[events.Head, error] {
	return func(yield func(events.Head, error) bool) {
		ctx, cancel := context.WithCancel(ctx) // Ends the lister's goroutine when the caller stops early.
		defer cancel()
		list := l.js.ListStreams(ctx, jetstream.WithStreamListSubject(events.SubjectsEvents))
		for info := range list.Info() {
			id, ok := events.ParseProgramStream(info.Config.Name)
			if ok && !yield(headOf(id, info), nil) {
				return
			}
		}
		if err := list.Err(); err != nil {
			yield(events.Head{}, fmt.Errorf("list program streams: %w", err))
		}
	}
}

func (l perProgram) Programs(ctx context.Context, user events.UserID) ([]events.ProgramID, error) {
	ctx, cancel := context.WithCancel(ctx) // Ends the lister's goroutine in any case.
	defer cancel()
	var programs []events.ProgramID
	names := l.js.StreamNames(ctx, jetstream.WithStreamListSubject(events.UserEventSubjects(user)))
	for name := range names.Name() {
		if id, ok := events.ParseProgramStream(name); ok && id.User() == user {
			programs = append(programs, id)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("list programs of %s: %w", user, err)
	}
	return programs, nil
}

func (l perProgram) Remove(ctx context.Context, id events.ProgramID) error {
	err := l.js.DeleteStream(ctx, l.Stream(id))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s: %w", l.Stream(id), err)
	}
	return nil
}
