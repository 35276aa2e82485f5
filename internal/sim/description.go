package sim

import (
	"cmp"
	"hash/maphash"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// description is what something in a small world is like, in two parts: a text, and the numbers of events, attempts and containers in it, in the
// order of the text. Of numbers only the order matters that they are in, since nothing is done with them but to compare them, and each new
// one is greater than all others. So worlds with the same text go on alike where their numbers have the same names.
//
// What is over is not in it: of a log, all but the state that it leads to, the effects that are outstanding, and the keys under which something may be
// published again. A message that names an event whose effects are not outstanding is dropped, whatever event that is.
type description struct {
	text    []byte
	numbers []number
}

// number is one that things are told apart by.
type number struct {
	of sort
	n  uint64
}

type sort byte

const (
	anEvent sort = iota
	anAttempt
	aContainer
)

func (d *description) word(s string)   { d.text = append(append(d.text, s...), ' ') }
func (d *description) number(n uint64) { d.text = append(strconv.AppendUint(d.text, n, 36), ' ') }
func (d *description) flag(b bool)     { d.text = strconv.AppendBool(d.text, b) }
func (d *description) next(what string) {
	d.text = append(append(d.text, '\n'), what...)
	d.text = append(d.text, ' ')
}

func (d *description) named(of sort, n uint64) {
	d.text = append(d.text, '#')
	d.numbers = append(d.numbers, number{of, n})
}

func (d *description) container(id string) {
	if n, ok := containerNumber(id); ok {
		d.named(aContainer, n)
	} else {
		d.word(id)
	}
}

// containerNumber is the number in a container's ID.
func containerNumber(id string) (uint64, bool) {
	digits, found := strings.CutPrefix(id, "c")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, found && err == nil
}

// call describes one, with the containers and the effects that it names.
func (d *description) call(op string) {
	for _, word := range strings.Fields(op) {
		if key, isKey := strings.CutPrefix(word, "/"); isKey {
			seq, _, _ := strings.Cut(key, "/")
			n, _ := strconv.ParseUint(seq, 10, 64)
			d.named(anEvent, n)
		} else {
			d.container(word)
		}
	}
}

func (d *description) state(s reducer.ProgramState) {
	d.word(s.State.String())
	d.word(s.ImageID)
	d.container(s.ContainerID)
	d.word(s.ErrorMsg)
	d.word(string(s.HostID))
	d.named(anAttempt, s.Attempt)
	d.flag(s.RestartPending)
	d.number(uint64(s.ExitCode))
}

func (d *description) checkpoint(cp reducer.Checkpoint, found bool) {
	d.flag(found)
	d.named(anEvent, cp.Seq)
	d.state(cp.State)
}

func (d *description) log(t *truth) {
	d.named(anEvent, t.at.Seq)
	d.state(t.at.State)
	for _, p := range t.outstanding.All() {
		d.pending(p)
	}
}

func (d *description) pending(p reducer.Pending) {
	d.named(anEvent, p.Seq)
	d.word(string(p.HostID))
	d.named(anAttempt, p.Attempt)
	for _, eff := range p.Effects {
		d.word(string(eff.Type()))
		d.named(anAttempt, eff.Place().Attempt)
		if stop, ok := eff.(effects.StopRuntime); ok {
			d.container(stop.ContainerID)
		}
	}
}

func (d *description) docker(all *docker) {
	for _, c := range all.containers {
		d.one(c)
	}
}

func (d *description) one(c *container) {
	d.next("container")
	d.container(c.id)
	d.word(string(c.host))
	d.named(anAttempt, c.attempt)
	d.number(uint64(c.phase))
	d.number(uint64(c.exitCode))
}

// event describes one that is being published under a key.
func (d *description) event(id events.ProgramID, ev events.Event, key string) {
	if of, rest, ok := numberOf(id, key); ok {
		d.named(of.of, of.n)
		d.word(rest)
	}
	d.named(anAttempt, attemptOf(ev))
	switch e := ev.(type) {
	case events.FoldersEnsured:
		d.word(e.Error)
	case events.BuildFinished:
		d.word(e.ImageID)
		d.word(e.Error)
	case events.RuntimeStarted:
		d.container(e.ContainerID)
	case events.StartFailed:
		d.word(e.Reason)
	case events.RuntimeExited:
		d.container(e.ContainerID)
		d.number(uint64(e.ExitCode))
	case events.StopFinished:
		d.container(e.ContainerID)
		d.word(e.Error)
	}
}

func (d *description) add(other description) {
	d.text = append(d.text, other.text...)
	d.numbers = append(d.numbers, other.numbers...)
}

// describe describes a whole small world. known is false where something in it is as no other knows it: then only an exact fingerprint will do.
func (w *World) describe() (d description, known bool) {
	t := w.truth(w.ids[0])
	cp, found, _ := w.mem.Load(background, w.ids[0])
	d.text, d.numbers = make([]byte, 0, 1024), make([]number, 0, 64)
	known = !found || 0 < cp.Seq && cp.Seq <= t.at.Seq && cp.State == t.log[cp.Seq-1].After
	d.number(uint64(w.now.UnixNano()))
	d.number(w.mem.Fingerprints(w.cfg.small.seed).Hosts)
	d.docker(&w.docker)
	d.next("log")
	d.log(t)
	d.flag(t.intent == "")
	d.flag(t.intent == events.TypeUserStopRequested)
	d.next("checkpoint")
	d.checkpoint(cp, found)
	for _, m := range w.mem.Messages() {
		d.next("message")
		d.word(m.Subject)
		d.number(uint64(m.Delivered))
		d.number(uint64(m.Due))
		if _, awaited := t.outstanding.At(m.Seq); awaited || m.Subject == "" {
			d.named(anEvent, m.Seq)
		}
	}
	for _, p := range w.procs {
		w.describeProcess(&d, p, t)
	}
	w.describeTasks(&d)
	for _, l := range w.late {
		d.next("late")
		d.word(l.of.name)
		d.call(l.what)
		d.add(l.args)
	}
	w.describeChecks(&d)
	w.describeKeys(&d)
	return d, known
}

// describeProcess describes one with the order in which it and its comparisons began, as far as checks ask for it, and no numbers of steps.
func (w *World) describeProcess(d *description, p *proc, t *truth) {
	d.next(p.name)
	for _, b := range []bool{p.alive, p.compared, p.dueCheck, p.dueLook, p.dueBlind} {
		d.flag(b)
	}
	for _, id := range p.exits {
		d.container(id)
	}
	for _, l := range p.undone {
		d.word("undone")
		if _, awaited := t.outstanding.At(l.Seq); awaited {
			d.named(anEvent, l.Seq)
		}
	}
	if w.asksWhatBegan() {
		for _, b := range w.began(p) {
			d.flag(b)
		}
		for _, c := range w.docker.containers {
			d.flag(c.started < p.since)
			d.flag(c.started < p.compareBegan)
		}
	}
	if p.watch != nil {
		d.number(deep(w.cfg.small.seed, reflect.ValueOf(p.watch).Elem()))
	}
}

// asksWhatBegan reports whether it matters what began before what: for checks where hosts may be lost, which takes time, and for an executor that
// compares again before it works, which the restart of a server makes it do.
func (w *World) asksWhatBegan() bool {
	b := w.cfg.small.bounds
	return b.Waits > 0 || !b.Steady
}

// began says what of a process began before what.
func (w *World) began(p *proc) []bool {
	return []bool{p.lagged, p.tried < p.since, p.compareBegan < p.since, w.cutShort[p.host]}
}

func (t *task) beganBefore() []bool {
	return []bool{t.lagged, t.began <= t.proc.compareBegan, t.began < t.proc.since}
}

// describeTasks describes what is under way, in any order.
func (w *World) describeTasks(d *description) {
	all := make([]description, len(w.tasks))
	for i, t := range w.tasks {
		one := &all[i]
		one.next("task")
		one.word(t.proc.name)
		one.word(t.name)
		one.word(t.key)
		one.call(t.next)
		one.add(t.args)
		for _, b := range []bool{t.news, t.unheard, w.hasTurn(t)} {
			one.flag(b)
		}
		if w.asksWhatBegan() {
			for _, b := range t.beganBefore() {
				one.flag(b)
			}
		}
		for _, l := range w.lost { // There is one program, and one host.
			one.flag(l.step < t.began)
		}
		if t.delivery != nil {
			one.number(uint64(t.delivery.Delivered))
			one.number(uint64(t.delivery.Position() + 1))
		}
		one.number(t.seen.history)
		one.numbers = append(one.numbers, t.seen.numbers...)
	}
	slices.SortFunc(all, func(a, b description) int { return slices.Compare(a.text, b.text) })
	for _, one := range all {
		d.add(one)
	}
}

// describeChecks describes what the checks remember: hosts that were declared lost, and why containers ended, as far as they matter.
func (w *World) describeChecks(d *description) {
	for at, l := range w.lost {
		p := w.procOf(at.host)
		d.next("lost")
		d.named(anAttempt, l.attempt)
		d.flag(l.step < p.since)
		d.flag(l.step < p.compareBegan)
	}
	d.next("back")
	d.number(uint64(min(w.now.Sub(w.serverBack), hostTTL)))
	for _, n := range d.sorted() {
		if n.of == aContainer {
			d.flag(w.explain["c"+strconv.FormatUint(n.n, 10)])
		}
	}
}

// describeKeys describes under which keys something may be published again: by a process that knows the event, the attempt or the container that the
// key names, if there is any.
func (w *World) describeKeys(d *description) {
	type known struct {
		number
		rest string
		age  time.Duration
	}
	var all []known
	sorted := d.sorted()
	w.mem.Keys(func(key string, age time.Duration) {
		of, rest, ok := numberOf(w.ids[0], key)
		if _, found := slices.BinarySearchFunc(sorted, of, compareNumbers); found && ok {
			all = append(all, known{of, rest, age})
		}
	})
	slices.SortFunc(all, func(a, b known) int {
		return cmp.Or(cmp.Compare(a.rest, b.rest), compareNumbers(a.number, b.number), cmp.Compare(a.age, b.age))
	})
	d.next("keys")
	for _, k := range all {
		d.word(k.rest)
		d.number(uint64(k.age))
		d.named(k.of, k.n)
	}
}

// numberOf is the number in the key of a publication, and what else it says.
func numberOf(id events.ProgramID, key string) (n number, rest string, ok bool) {
	key, found := strings.CutPrefix(key, string(id)+"/")
	of, rest, _ := strings.Cut(key, "/")
	digits := of
	switch of {
	case "exit":
		n.of = aContainer
		n.n, ok = containerNumber(rest)
		return n, "", found && ok
	case "lost":
		n.of = anAttempt
		host, attempt, _ := strings.Cut(rest, "/")
		digits, rest, _ = strings.Cut(attempt, "/") // Then comes the loss before.
		rest = host + rest
	}
	var err error
	n.n, err = strconv.ParseUint(digits, 10, 64)
	return n, rest, found && err == nil
}

func compareNumbers(a, b number) int { return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.n, b.n)) }

// sorted are the numbers that there are, each once.
func (d *description) sorted() []number {
	all := slices.Clone(d.numbers)
	slices.SortFunc(all, compareNumbers)
	return slices.Compact(all)
}

// names are, for each number, its place among all numbers that there are of its sort.
func (d *description) names() []uint64 {
	all := d.sorted()
	var first [aContainer + 1]int
	for i := len(all) - 1; i >= 0; i-- {
		first[all[i].of] = i
	}
	names := make([]uint64, len(d.numbers))
	for i, n := range d.numbers {
		at, _ := slices.BinarySearchFunc(all, n, compareNumbers)
		names[i] = uint64(at - first[n.of])
	}
	return names
}

func (d *description) raw() []uint64 {
	raw := make([]uint64, len(d.numbers))
	for i, n := range d.numbers {
		raw[i] = n.n
	}
	return raw
}

// print is a fingerprint of the text, with numbers.
func (d *description) print(seed maphash.Seed, numbers []uint64) uint64 {
	text := d.text
	for _, n := range numbers {
		text = append(strconv.AppendUint(text, n, 36), ' ')
	}
	return maphash.Bytes(seed, text)
}
