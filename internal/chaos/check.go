package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/prochost"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// Problem is something that must not be.
type Problem struct {
	Kind    string // One of the problem constants.
	Program events.ProgramID
	Text    string
}

// The kinds of problems, as the table counts them.
const (
	ProblemLost       = "lost"       // An acknowledged event is not in the log.
	ProblemDuplicated = "duplicated" // One publication is in the log twice.
	ProblemOrphan     = "orphan"     // A container that nobody names, or two that run.
	ProblemStuck      = "stuck"      // A program is not at rest, or a Ready one does not run.
	ProblemWrong      = "wrong"      // Everything else: read model, intent, reasons, amount of work.
)

func (p Problem) String() string { return fmt.Sprintf("%s: %s: %s", p.Kind, p.Program, p.Text) }

// truth is a program as its log tells it.
type truth struct {
	id     events.ProgramID
	at     reducer.Checkpoint
	steps  []reducer.Step
	intent events.Type // Of the last user event that counts; "" is none.
}

// truths folds every log.
func truths(ctx context.Context, b *bus.Bus, ids []events.ProgramID) ([]truth, error) {
	var all []truth
	for _, id := range ids {
		t := truth{id: id, at: reducer.NewCheckpoint(id)}
		if err := t.read(ctx, b); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// read folds in what the log has beyond what was read of it.
func (t *truth) read(ctx context.Context, b *bus.Bus) error {
	for stored, err := range b.Read(ctx, t.id, t.at.Seq) {
		var step reducer.Step
		if err == nil {
			t.at, step, err = t.at.Next(stored)
		}
		if err != nil {
			return err
		}
		t.steps = append(t.steps, step)
		if isUser(step.Event) && step.Ignored == "" {
			t.intent = step.Type
		}
	}
	return nil
}

func isUser(ev events.Event) bool {
	switch ev.(type) {
	case events.UserStartRequested, events.UserStopRequested, events.UserRestartRequested:
		return true
	}
	return false
}

func atRest(s reducer.State) bool {
	return s != reducer.StateBuilding && s != reducer.StateStarting && s != reducer.StateStopping
}

// checker compares what there is with what must be.
type checker struct {
	bus    *bus.Bus
	nc     *nats.Conn
	system *System
	ids    []events.ProgramID
	seed   uint64
	enemy  *nemesis
	watch  *watch
	users  *users
	seen   []truth // What settled has read; only the nemesis asks it.
}

// rest finds what must not be at rest. The system may still be on its way there.
func (c *checker) rest(ctx context.Context) ([]Problem, error) {
	all, err := truths(ctx, c.bus, c.ids)
	if err != nil {
		return nil, err
	}
	var found []Problem
	add := func(kind string, id events.ProgramID, format string, args ...any) {
		found = append(found, Problem{kind, id, fmt.Sprintf(format, args...)})
	}
	states := map[events.ProgramID]reducer.ProgramState{}
	for _, t := range all {
		states[t.id] = t.at.State
		c.state(t, add)
		cp, known, err := c.bus.Load(ctx, t.id)
		if err != nil {
			return nil, err
		}
		if !known || cp != t.at {
			add(ProblemWrong, t.id, "the read model has %d %s, the log %d %s", cp.Seq, cp.State.State, t.at.Seq, t.at.State.State)
		}
	}
	return found, c.containers(states, add)
}

type addFunc func(kind string, id events.ProgramID, format string, args ...any)

func (c *checker) state(t truth, add addFunc) {
	s := t.at.State
	switch {
	case !atRest(s.State):
		add(ProblemStuck, t.id, "is %s of attempt %d on %q since event %d of %s", s.State, s.Attempt, s.HostID, t.at.Seq, t.at.Time.Format(time.TimeOnly))
	case s.State == reducer.StateError && s.ErrorMsg == "":
		add(ProblemWrong, t.id, "is in Error without a reason")
	case s.State == reducer.StateReady && t.intent == events.TypeUserStopRequested:
		add(ProblemWrong, t.id, "is Ready although its user stopped it last")
	case (s.State == reducer.StateCreated || s.State == reducer.StateStopped) && t.intent != "" && t.intent != events.TypeUserStopRequested:
		add(ProblemWrong, t.id, "is %s although its user's last word was %s", s.State, t.intent)
	}
}

// containers compares those that run with those that Ready programs name.
func (c *checker) containers(states map[events.ProgramID]reducer.ProgramState, add addFunc) error {
	runs := map[string]bool{}
	for _, e := range c.system.executors {
		list, err := e.host.list()
		if err != nil {
			return err
		}
		for _, con := range list {
			s := states[con.ProgramID]
			named := s.ContainerID == con.ID && string(s.HostID) == e.Name
			runs[con.ID] = con.Running
			switch {
			case con.Running && !(named && s.State == reducer.StateReady):
				add(ProblemOrphan, con.ProgramID, "%s runs on %s; the program is %s on %q in %q", con.ID, e.Name, s.State, s.HostID, s.ContainerID)
			case !con.Running && !(named && s.State == reducer.StateError):
				add(ProblemOrphan, con.ProgramID, "%s lies about on %s; the program is %s", con.ID, e.Name, s.State)
			}
		}
	}
	for id, s := range states {
		if s.State == reducer.StateReady && !runs[s.ContainerID] {
			add(ProblemStuck, id, "is Ready in %s on %s, which does not run", s.ContainerID, s.HostID)
		}
	}
	return nil
}

// final finds what must not be in what was recorded and in the logs. It is asked once, at rest.
func (c *checker) final(ctx context.Context) ([]Problem, error) {
	all, err := truths(ctx, c.bus, c.ids)
	if err != nil {
		return nil, err
	}
	var found []Problem
	add := func(kind string, id events.ProgramID, format string, args ...any) {
		found = append(found, Problem{kind, id, fmt.Sprintf(format, args...)})
	}
	total := 0
	for _, t := range all {
		total += len(t.steps)
		c.steps(t, add)
		c.pairs(t, add)
		if err := c.acknowledged(t, add); err != nil {
			return nil, err
		}
	}
	// A start is a request, two messages of effects, four results and an exit.
	if most := 20*len(c.ids) + 12*len(c.users.all()) + 10*len(c.ids)*len(c.enemy.all()); total > most {
		add(ProblemWrong, "", "%d events, which is more than %d", total, most)
	}
	for _, err := range c.system.deaths() {
		add(ProblemWrong, "", "%v", err)
	}
	return found, nil
}

// steps checks that no program is in Error for a reason that nobody made, and that no attempt moves another.
func (c *checker) steps(t truth, add addFunc) {
	for _, step := range t.steps {
		if step.After.State != reducer.StateError || step.Before.State == reducer.StateError {
			continue
		}
		switch e := step.Event.(type) {
		case events.HostLost:
		case events.RuntimeExited:
			planned := prochost.PlanOf(c.seed, t.id, step.Before.Attempt).Script != (box.Script{})
			if !planned && !c.enemy.ended(e.ContainerID) {
				add(ProblemWrong, t.id, "event %d says that %s exited, which nothing made it do", step.Seq, e.ContainerID)
			}
		default:
			if !strings.Contains(step.After.ErrorMsg, prochost.Injected) {
				add(ProblemWrong, t.id, "event %d, %s: Error for no reason: %q", step.Seq, step.Type, step.After.ErrorMsg)
			}
		}
	}
}

// pairs checks that two containers of a program ran at once only where the host of one had been declared lost.
func (c *checker) pairs(t truth, add addFunc) {
	for pair, when := range c.watch.of(t.id) {
		allowed := false
		for _, step := range t.steps {
			lost, ok := step.Event.(events.HostLost)
			allowed = allowed || ok && (lost.HostID == pair[0].host || lost.HostID == pair[1].host)
		}
		if !allowed {
			add(ProblemOrphan, t.id, "%s on %s and %s on %s ran at the same time, at %s", pair[0].id, pair[0].host, pair[1].id, pair[1].host, when.Format(time.TimeOnly))
		}
	}
}

// acknowledged checks that every publication is in the log once, at the place that was acknowledged, and that nobody but users spoke
// for them.
func (c *checker) acknowledged(t truth, add addFunc) error {
	tokens, keys := map[string][]uint64{}, map[string][]uint64{}
	types, byWhom := map[uint64]events.Type{}, map[uint64]string{}
	err := c.each(t, func(seq uint64, msg *nats.Msg) {
		types[seq] = events.EventType(msg.Subject)
		if token := msg.Header.Get(tokenHeader); token != "" {
			tokens[token], byWhom[seq] = append(tokens[token], seq), token
		}
		if key := msg.Header.Get(nats.MsgIdHdr); key != "" {
			keys[key] = append(keys[key], seq)
		}
	})
	if err != nil {
		return err
	}
	for key, seqs := range keys {
		if len(seqs) > 1 {
			add(ProblemDuplicated, t.id, "key %s stands at %v", key, seqs)
		}
	}
	published := map[string]bool{}
	for _, p := range c.users.all() {
		if p.program != t.id {
			continue
		}
		published[p.token] = true
		switch seqs := tokens[p.token]; {
		case len(seqs) > 1:
			add(ProblemDuplicated, t.id, "%s %s stands at %v", p.typ, p.token, seqs)
		case p.seq != 0 && (len(seqs) == 0 || seqs[0] != p.seq || types[p.seq] != p.typ):
			add(ProblemLost, t.id, "%s %s was acknowledged as event %d and stands at %v", p.typ, p.token, p.seq, seqs)
		}
	}
	for _, step := range t.steps {
		if isUser(step.Event) && !published[byWhom[step.Seq]] {
			add(ProblemWrong, t.id, "event %d is a %s that no user published", step.Seq, step.Type)
		}
	}
	return nil
}

// each reads a log with the headers of its messages.
func (c *checker) each(t truth, fn func(seq uint64, msg *nats.Msg)) error {
	js, err := c.nc.JetStream()
	if err != nil {
		return err
	}
	sub, err := js.SubscribeSync(events.EventSubjects(t.id), nats.OrderedConsumer(), nats.BindStream(events.ProgramStream(t.id)))
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // Its consumer expires by itself if this fails.
	for seq := uint64(0); seq < t.at.Seq; {
		msg, err := sub.NextMsg(readWait)
		if err != nil {
			return fmt.Errorf("read the log of %s after event %d: %w", t.id, seq, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		seq = meta.Sequence.Stream
		fn(seq, msg)
	}
	return nil
}

const readWait = 10 * time.Second
