package tenants_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// attack is a row of the table. try returns what it got hold of, which must be nothing. Then everything is compared with what it was
// before: a call that was denied proves nothing.
type attack struct {
	kind, name string
	as         string
	try        func(*attacker) string
	// logged says that the bus lets it into a log. Then nothing may come of it: the states of programs, the queues and what runs on the
	// hosts are compared.
	logged bool
	itself string // The queue in which the attacker makes itself work, as it may.
}

// ask is an attack that sends one request.
func ask(kind, as, subject, body string) attack {
	return attack{kind: kind, as: as, name: subject + " " + body[:min(len(body), 60)], try: func(a *attacker) string { return a.ask(subject, body, nil) }}
}

// reply is an attack that sends a request which is allowed, so that its answer goes to a subject that is not.
func reply(as, subject, body, to string) attack {
	return attack{kind: "reply subject", as: as, name: subject + " answered to " + to, try: func(a *attacker) string {
		a.publish(subject, to, body, nil)
		return ""
	}}
}

// listen is an attack that hears what is for others. What it hears is looked at at the end, after everybody was at work.
func listen(as, subject, queue string) attack {
	return attack{kind: "eavesdrop", as: as, name: subject, try: func(a *attacker) string { a.eavesdrop(subject, queue); return "" }}
}

func (f *field) attacks() []attack {
	return slices.Concat(f.eventAttacks(), f.apiAttacks(), f.queueAttacks(), f.storeAttacks(), f.managementAttacks(), f.replyAttacks(),
		f.listenAttacks(), f.systemAttacks(), f.hostAttacks(), f.supervisorAttacks(), f.malformedAttacks())
}

func bodyOf(typ events.Type, host events.HostID) string {
	origin := fmt.Sprintf(`"hostId":%q,"attempt":1`, host)
	switch typ {
	case events.TypeProgramCreated:
		return fmt.Sprintf(`{"buildId":%q,"sourceDigest":%q}`, "build-"+digest[:12], digest)
	case events.TypeHostDrained:
		return fmt.Sprintf(`{"hostId":%q}`, host)
	case events.TypeHostLost:
		return fmt.Sprintf(`{"hostId":%q,"reason":"gone"}`, host)
	case events.TypeFoldersEnsured, events.TypeStopFinished:
		return `{` + origin + `,"success":true}`
	case events.TypeBuildFinished:
		return `{` + origin + `,"success":true,"imageId":"sha256:bad"}`
	case events.TypeRuntimeStarted:
		return `{` + origin + `,"containerId":"bad"}`
	case events.TypeStartFailed:
		return `{` + origin + `,"reason":"bad"}`
	case events.TypeRuntimeExited:
		return `{` + origin + `,"exitCode":1}`
	}
	return `{}`
}

var (
	userTypes   = []events.Type{events.TypeUserStartRequested, events.TypeUserStopRequested, events.TypeUserRestartRequested}
	resultTypes = []events.Type{
		events.TypeFoldersEnsured, events.TypeBuildFinished, events.TypeRuntimeStarted,
		events.TypeStartFailed, events.TypeRuntimeExited, events.TypeStopFinished,
	}
	serviceTypes = []events.Type{events.TypeProgramCreated, events.TypeHostLost, events.TypeHostDrained}
)

// bobsUpload is an upload that is not complete.
const bobsUpload = "0123456789abcdef0123456789abcdef"

var (
	uploadVerbs = []string{wire.VerbUploadBegin, wire.VerbUploadChunk, wire.VerbUploadCommit}
	bobsChunk   = []byte("the first part of bob's source")
)

func bobsUploadDigest() string {
	sum := sha256.Sum256(bobsChunk)
	return hex.EncodeToString(sum[:])
}

func (f *field) eventAttacks() []attack {
	var out []attack
	for _, typ := range slices.Concat(userTypes, resultTypes, serviceTypes) {
		out = append(out, ask("event of another tenant", asAlice, events.EventSubject(f.victim, typ), bodyOf(typ, "h2")))
	}
	for _, typ := range slices.Concat(resultTypes, serviceTypes) {
		out = append(out, ask("event that is not a user's", asAlice, events.EventSubject(f.own, typ), bodyOf(typ, "h2")))
	}
	return append(out,
		ask("event that is not a user's", asAlice, events.EventSubject(f.own, "Nonsense"), `{}`),
		ask("event of another tenant", asAlice, "hersh.events.alice."+string(f.victim)+".UserStopRequested", `{}`),
		ask("event of another tenant", asAlice, "hersh.events.bob."+string(f.own)+".UserStopRequested", `{}`),
		ask("event of another tenant", asAlice, "hersh.feed.bob."+string(f.victim)+".UserStopRequested", `{}`),
		ask("event of another tenant", asAlice, "hersh.logs.bob."+string(f.victim)+".stdout", `forged output`),
		ask("event of another tenant", asAlice, "hersh.logs.alice."+string(f.own)+".stdout", `forged output`),
	)
}

func (f *field) apiAttacks() []attack {
	named := fmt.Sprintf(`{"programId":%q}`, f.victim)
	creation := fmt.Sprintf(`{"programId":%q,"sourceDigest":%q}`, events.NewProgramID("bob", f.victim.Build()), digest)
	begin := fmt.Sprintf(`{"sourceDigest":%q,"bytes":10}`, digest)
	chunk := fmt.Sprintf(`{"upload":%q,"offset":131072,"data":"eA=="}`, bobsUpload)
	commit := fmt.Sprintf(`{"upload":%q,"sourceDigest":%q}`, bobsUpload, bobsUploadDigest())
	bodies := map[string]string{
		wire.VerbUploadBegin: begin, wire.VerbUploadChunk: chunk, wire.VerbUploadCommit: commit,
		wire.VerbCreate: creation, wire.VerbList: `{}`, wire.VerbGet: named, wire.VerbHistory: named, wire.VerbLogs: named, wire.VerbDelete: named,
	}
	var out []attack
	for _, verb := range uploadVerbs {
		out = append(out, ask("upload in another's name", asAlice, events.APISubject("bob", verb), bodies[verb]))
		out = append(out, ask("upload in another's name", asAlice, events.APISubject("*", verb), bodies[verb]))
		out = append(out, ask("upload in another's name", asH1, events.APISubject("bob", verb), bodies[verb]))
	}
	// Her own name, his upload, and the digest of what he has sent of it.
	out = append(out, ask("upload of another", asAlice, events.APISubject("alice", wire.VerbUploadCommit), commit))
	for _, verb := range []string{wire.VerbCreate, wire.VerbList, wire.VerbGet, wire.VerbHistory, wire.VerbLogs, wire.VerbDelete} {
		out = append(out, ask("request in another's name", asAlice, events.APISubject("bob", verb), bodies[verb]))
		out = append(out, ask("request in another's name", asAlice, events.APISubject("*", verb), bodies[verb]))
		if verb != wire.VerbList {
			out = append(out, ask("request about another's program", asAlice, events.APISubject("alice", verb), bodies[verb]))
		}
	}
	for _, subject := range []string{events.SubjectProgramsList, events.SubjectHostsList, events.SubjectHostsRegister, events.HostRegisterSubject("h2")} {
		out = append(out, ask("request of operators and hosts", asAlice, subject, `{"hostId":"h2"}`))
	}
	for _, as := range []string{asAlice, asH1, asSupervisor} {
		for _, host := range []events.HostID{"h1", "h2"} { // Its own, and another.
			for _, body := range []string{`{"hostId":%q,"drained":true}`, `{"hostId":%q,"drained":false}`, `{"hostId":%q,"drained":true,"stop":true}`} {
				out = append(out, ask("drain a host", as, events.SubjectHostsDrain, fmt.Sprintf(body, host)))
			}
		}
	}
	return out
}

func (f *field) queueAttacks() []attack {
	forged := fmt.Sprintf(`{"programId":%q,"seq":2,"attempt":1,"effects":[{"type":"StopRuntime"}]}`, f.victim)
	var out []attack
	for _, as := range []string{asAlice, asH1} {
		for _, queue := range []string{"any.build", "h2.run", "h3.run", "h1.run"} {
			out = append(out, ask("forge effects", as, "hersh.effects."+queue+".bob."+string(f.victim), forged))
		}
		out = append(out, ask("forge a wake-up", as, "hersh.wake.bob."+string(f.victim), `{}`))
		for _, queue := range []string{"HERSH_EFFECTS.h3-run", "HERSH_EFFECTS.h3-build", "HERSH_EFFECTS.h2-run", "HERSH_WAKE.supervisors"} {
			out = append(out, ask("take another's work", as, "$JS.API.CONSUMER.MSG.NEXT."+queue, `{"batch":1,"no_wait":true}`))
		}
		for _, word := range []string{"", "+ACK", "-NAK", "+TERM", "+WPI", "+NXT"} {
			out = append(out, ask("answer for another's work", as, f.held.Reply(), word))
		}
		out = append(out, ask("purge a queue", as, "$JS.API.STREAM.PURGE.HERSH_EFFECTS", `{}`), ask("purge a queue", as, "$JS.API.STREAM.PURGE.HERSH_WAKE", `{}`))
	}
	return out
}

func (f *field) storeAttacks() []attack {
	var out []attack
	for _, as := range []string{asAlice, asH1} {
		for _, subject := range []string{
			"$KV.HERSH_PROGRAMS." + events.CheckpointKey(f.victim), "$KV.HERSH_PROGRAMS." + events.CheckpointKey(f.own),
			"$KV.HERSH_HOSTS.h2", "$KV.HERSH_HOSTS.h9", "$KV.HERSH_LEASES.sweep", "$KV.HERSH_DRAINS.h1", "$KV.HERSH_DRAINS.h2",
			"$KV.HERSH_DELETED." + events.CheckpointKey(f.victim),
			"$O.HERSH_SOURCES.C.x", "$O.HERSH_SOURCES.M.x", events.UploadSubject("bob", "x"), events.UploadSubject("alice", "x"),
		} {
			out = append(out, ask("write into a store", as, subject, `{"hostId":"h2"}`))
		}
	}
	for _, stream := range []string{events.ProgramStream(f.victim), "KV_HERSH_PROGRAMS", "KV_HERSH_HOSTS", "OBJ_HERSH_SOURCES", "HERSH_LOGS", "HERSH_UPLOADS"} {
		out = append(out,
			ask("read a store", asAlice, "$JS.API.DIRECT.GET."+stream, `{"seq":1}`),
			ask("read a store", asAlice, "$JS.API.STREAM.MSG.GET."+stream, `{"seq":1}`))
	}
	for _, stream := range []string{"HERSH_LOGS", "HERSH_UPLOADS", "KV_HERSH_HOSTS", "KV_HERSH_LEASES"} {
		out = append(out,
			ask("read a store", asH1, "$JS.API.DIRECT.GET."+stream, `{"seq":1}`), ask("read a store", asH1, "$JS.API.STREAM.MSG.GET."+stream, `{"seq":1}`))
	}
	return out
}

// managementAttacks are the calls by which JetStream is managed, on things that are there.
func (f *field) managementAttacks() []attack {
	log := events.ProgramStream(f.victim)
	push := fmt.Sprintf(`{"stream_name":%q,"config":{"name":"spy","deliver_subject":%q,"ack_policy":"none","filter_subject":%q}}`,
		log, events.EventSubject(f.victim, events.TypeRuntimeExited), events.EventSubjects(f.victim))
	steal := `{"name":"THEFT","subjects":["theft.>"],"sources":[{"name":"` + log + `"}]}`
	calls := []struct{ subject, body string }{
		{"STREAM.CREATE.THEFT", steal},
		{"STREAM.CREATE.GRAB", `{"name":"GRAB","subjects":["hersh.events.>"]}`},
		{"STREAM.UPDATE." + log, `{"name":"` + log + `","subjects":["nothing"]}`},
		{"STREAM.DELETE." + log, ``},
		{"STREAM.PURGE." + log, `{}`},
		{"STREAM.MSG.DELETE." + log, `{"seq":1}`},
		{"STREAM.SNAPSHOT." + log, `{"deliver_subject":"theft"}`},
		{"STREAM.RESTORE." + log, `{}`},
		{"STREAM.LEADER.STEPDOWN." + log, `{}`},
		{"STREAM.PEER.REMOVE." + log, `{"peer":"hersh"}`},
		{"STREAM.LIST", `{}`},
		{"STREAM.NAMES", `{}`},
		{"CONSUMER.CREATE." + log, push},
		{"CONSUMER.CREATE." + log + ".spy", push},
		{"CONSUMER.DURABLE.CREATE.HERSH_EFFECTS.spy", `{"stream_name":"HERSH_EFFECTS","config":{"durable_name":"spy","ack_policy":"explicit"}}`},
		{"CONSUMER.CREATE.HERSH_EFFECTS.h1-run.hersh.effects.h1.run.*.*", `{"stream_name":"HERSH_EFFECTS","config":{"durable_name":"h1-run","ack_policy":"explicit","deliver_subject":"hersh.events.x"}}`},
		{"CONSUMER.DELETE.HERSH_EFFECTS.h3-run", ``},
		{"CONSUMER.PAUSE.HERSH_EFFECTS.h3-run", `{"pause_until":"2099-01-01T00:00:00Z"}`},
		{"CONSUMER.RESET.HERSH_EFFECTS.h3-run", `{}`},
		{"CONSUMER.UNPIN.HERSH_EFFECTS.h3-run", `{"group":"x"}`},
		{"CONSUMER.LEADER.STEPDOWN.HERSH_EFFECTS.h3-run", `{}`},
		{"CONSUMER.LIST.HERSH_EFFECTS", `{}`},
		{"CONSUMER.NAMES.HERSH_EFFECTS", `{}`},
		{"CONSUMER.INFO.HERSH_EFFECTS.h3-run", ``},
		{"META.LEADER.STEPDOWN", `{}`},
		{"SERVER.REMOVE", `{"peer":"hersh"}`},
		{"ACCOUNT.PURGE.HERSH", `{}`},
		{"ACCOUNT.STREAM.MOVE.HERSH." + log, `{}`},
	}
	var out []attack
	for _, as := range []string{asAlice, asH1} {
		for _, c := range calls {
			out = append(out, ask("manage JetStream", as, "$JS.API."+c.subject, c.body))
		}
	}
	return append(out,
		ask("manage JetStream", asAlice, "$JS.API.INFO", ``),
		ask("manage JetStream", asAlice, "$JS.API.STREAM.INFO."+log, ``),
		ask("manage JetStream", asAlice, "$JS.hub.API.STREAM.LIST", ``),
	)
}

// forbiddenReplies are subjects at which an answer would do harm.
func (f *field) forbiddenReplies() []string {
	return []string{
		events.EventSubject(f.victim, events.TypeUserStopRequested),
		events.EventSubject(f.own, events.TypeHostLost),
		"$KV.HERSH_PROGRAMS." + events.CheckpointKey(f.victim),
		"$KV.HERSH_HOSTS.h2",
		"$KV.HERSH_DRAINS.h2",
		"$KV.HERSH_DELETED." + events.CheckpointKey(f.victim),
		events.SubjectHostsDrain,
		"$JS.API.STREAM.DELETE." + events.ProgramStream(f.victim),
		"hersh.effects.h3.run.bob." + string(f.victim),
		"hersh.api.bob." + wire.VerbDelete,
		f.held.Reply(),
		"_R_.abcdef",
		"$SYS.REQ.SERVER.PING",
	}
}

func (f *field) replyAttacks() []attack {
	var out []attack
	for _, to := range f.forbiddenReplies() {
		out = append(out,
			reply(asAlice, events.APISubject("alice", wire.VerbList), `{}`, to),
			reply(asAlice, events.APISubject("alice", wire.VerbGet), `not JSON`, to),
			reply(asH1, "$JS.API.DIRECT.GET.KV_HERSH_PROGRAMS", `{"seq":1}`, to),
			reply(asH1, "$JS.API.STREAM.INFO.HERSH_LOGS", ``, to),
		)
		// The PubAck of an event: the event itself is alice's to publish, so it is one that does nothing.
		pubAck := reply(asAlice, events.EventSubject(f.own, events.TypeUserStopRequested), `{}`, to)
		pubAck.logged = true
		out = append(out, pubAck)
	}
	for _, typ := range resultTypes { // A host may publish results, so the answer gets into the log, where it counts for nothing.
		relayed := reply(asH1, "$JS.API.DIRECT.GET."+events.ProgramStream(f.victim), `{"last_by_subj":"`+events.EventSubject(f.victim, events.TypeFoldersEnsured)+`"}`, events.EventSubject(f.victim, typ))
		relayed.logged = true
		again := reply(asH1, "$JS.API.STREAM.MSG.GET."+events.ProgramStream(f.victim), `{"seq":1}`, events.EventSubject(f.victim, typ))
		again.logged = true
		out = append(out, relayed, again)
	}
	return out
}

func (f *field) listenAttacks() []attack {
	prefix := func(key string) string {
		return strings.SplitN(f.as(key).nc.NewInbox(), ".", 2)[0] + ".>"
	}
	var out []attack
	for _, subject := range []string{
		">", "hersh.>", "hersh.*.bob.>", "hersh.feed.>", "hersh.feed.*.*.*", "hersh.feed.bob.*.*", "hersh.logs.bob.*.*", "hersh.logs.>", "hersh.events.>",
		"hersh.events.bob.>", "hersh.effects.>", "hersh.wake.>", "hersh.uploads.>", "$KV.>", "$O.>", "$JS.>", "$SYS.>", "$SRV.>", "_R_.>", "_INBOX.>",
		prefix(asBob), prefix(asH2), prefix(tenants.Supervisor), prefix(tenants.Provisioner),
	} {
		out = append(out, listen(asAlice, subject, ""))
	}
	for _, subject := range []string{
		">", "hersh.>", "hersh.events.>", "hersh.effects.>", "hersh.logs.>", "hersh.uploads.>", "$KV.>", "$O.>", "$JS.>", "$SYS.>", "_R_.>", "_INBOX.>",
		prefix(asBob), prefix(asH2), prefix(tenants.Supervisor), prefix(tenants.Provisioner),
	} {
		out = append(out, listen(asH1, subject, ""))
	}
	for _, subject := range []string{"hersh.api.*.get", "hersh.api.bob.>", "hersh.api.>", events.SubjectHostsRegister, events.SubjectHostsDrain} {
		out = append(out, listen(asAlice, subject, "q"), listen(asH1, subject, "q")) // As if it were an instance of the request API.
	}
	for _, subject := range []string{"$SYS.>", "_INBOX.>", prefix(asBob), prefix(tenants.Provisioner), "hersh.effects.>", "$KV.>", "$O.>"} {
		out = append(out, listen(asSupervisor, subject, ""))
	}
	return out
}

func (f *field) systemAttacks() []attack {
	var out []attack
	for _, as := range []string{asAlice, asH1, asSupervisor} {
		for _, subject := range []string{
			"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.ACCOUNT.HERSH.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ",
			"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.LIST", "$SYS.ACCOUNT.HERSH.DISCONNECT",
		} {
			out = append(out, ask("system account", as, subject, `{}`))
		}
	}
	for _, verb := range []string{"PING", "INFO", "STATS", "PING.hersh"} {
		out = append(out, ask("system account", asAlice, "$SRV."+verb, ``), ask("system account", asH1, "$SRV."+verb, ``))
	}
	for _, key := range []string{asBob, asH2, asSupervisor, tenants.Provisioner} {
		inbox := f.as(key).nc.NewInbox()
		out = append(out, ask("another's inbox", asAlice, inbox, `{}`), ask("another's inbox", asH1, inbox, `{}`))
	}
	return out
}

// hostAttacks are what a host that was taken over tries as another.
func (f *field) hostAttacks() []attack {
	var out []attack
	for _, typ := range slices.Concat(userTypes, serviceTypes) {
		out = append(out, ask("event that is not a host's", asH1, events.EventSubject(f.victim, typ), bodyOf(typ, "h2")))
	}
	for _, typ := range resultTypes {
		subject := events.EventSubject(f.victim, typ)
		for _, host := range []events.HostID{"h2", "h1", ""} {
			body := bodyOf(typ, host)
			itself := ""
			if host == "h1" { // A container that it claims to run and nobody wants: h1 is told to stop it.
				itself = "queue h1-run"
			}
			out = append(out, attack{kind: "result in another's name", as: asH1, name: subject + " " + body, logged: true, itself: itself, try: func(a *attacker) string {
				a.publish(subject, "", body, nil)
				return ""
			}})
		}
		out = append(out, attack{kind: "result in another's name", as: asH1, name: subject + " with the server's header forged", logged: true, try: func(a *attacker) string {
			a.publish(subject, "", bodyOf(typ, "h2"), nats.Header{"Nats-Request-Info": {`{"acc":"HOST-h2"}`, `{"acc":"HOST-h2"}`}, "nats-request-info": {`{"acc":"HOST-h2"}`}})
			return ""
		}})
	}
	for _, verb := range []string{wire.VerbGet, wire.VerbDelete, wire.VerbList} {
		out = append(out, ask("request in another's name", asH1, events.APISubject("bob", verb), fmt.Sprintf(`{"programId":%q}`, f.victim)))
	}
	return append(out,
		ask("host as another", asH1, events.SubjectHostsRegister, `{"hostId":"h2"}`),
		ask("host as another", asH1, events.SubjectHostsRegister, `{"hostId":"h4"}`),
		ask("host as another", asH1, events.HostRegisterSubject("h2"), `{"hostId":"h2"}`),
		ask("host as another", asH1, events.SubjectHostsList, `{}`),
	)
}

// supervisorAttacks are what the key of a supervisor must not be good for.
func (f *field) supervisorAttacks() []attack {
	var out []attack
	for _, stream := range []string{"HERSH_WAKE", "HERSH_EFFECTS", "HERSH_LOGS", "HERSH_UPLOADS", "KV_HERSH_PROGRAMS", "KV_HERSH_HOSTS", "KV_HERSH_LEASES", "OBJ_HERSH_SOURCES"} {
		out = append(out, ask("supervisor as provisioner", asSupervisor, "$JS.API.STREAM.DELETE."+stream, ``))
		if stream != "HERSH_WAKE" {
			out = append(out, ask("supervisor as provisioner", asSupervisor, "$JS.API.STREAM.UPDATE."+stream, `{"name":"`+stream+`"}`))
		}
	}
	for _, typ := range userTypes {
		out = append(out, ask("event that is not a supervisor's", asSupervisor, events.EventSubject(f.victim, typ), bodyOf(typ, "h2")))
	}
	log := events.ProgramStream(f.victim)
	return append(out,
		ask("supervisor as provisioner", asSupervisor, "$JS.API.STREAM.PURGE."+log, `{}`),
		ask("supervisor as provisioner", asSupervisor, "$JS.API.STREAM.MSG.DELETE."+log, `{"seq":1}`),
		ask("supervisor as provisioner", asSupervisor, "$JS.API.STREAM.PURGE.HERSH_EFFECTS", `{}`),
		ask("supervisor as provisioner", asSupervisor, "$JS.API.CONSUMER.CREATE."+log+".spy", `{"stream_name":"`+log+`","config":{"name":"spy"}}`),
		ask("supervisor as provisioner", asSupervisor, "$JS.API.CONSUMER.DELETE.HERSH_EFFECTS.h3-run", ``),
		ask("supervisor as host", asSupervisor, "$KV.HERSH_HOSTS.h2", `{}`),
		ask("supervisor as host", asSupervisor, "$JS.API.CONSUMER.MSG.NEXT.HERSH_EFFECTS.h3-run", `{"batch":1}`),
		ask("supervisor as host", asSupervisor, f.held.Reply(), ``),
		ask("supervisor as host", asSupervisor, "hersh.logs.bob."+string(f.victim)+".stdout", `forged`),
	)
}

// malformedAttacks send to every request that alice may make what is none.
func (f *field) malformedAttacks() []attack {
	var out []attack
	for _, verb := range []string{wire.VerbCreate, wire.VerbGet, wire.VerbHistory, wire.VerbLogs, wire.VerbDelete} {
		subject := events.APISubject("alice", verb)
		for _, id := range []string{"*", ">", "alice.*", "../../bob", string(f.victim) + "\\u0000", string(f.own) + ".*", strings.Repeat("a", 300), "PROGRAM", "$KV", "\\n"} {
			out = append(out, ask("malformed request", asAlice, subject, `{"programId":"`+id+`"}`))
		}
		for _, body := range []string{`[]`, `{"programId":1}`, `{"unknown":1}`, `{}{}`, "\xff\xfe", strings.Repeat(`{"a":`, 10_000), `{"programId":"` + strings.Repeat("x", 100_000) + `"}`} {
			out = append(out, ask("malformed request", asAlice, subject, body))
		}
	}
	out = append(out, f.malformedUploads()...)
	for _, body := range []string{`[]`, `{"after":"` + strings.Repeat("*", 20_000) + `"}`, `{"limit":-1}`} {
		out = append(out, ask("malformed request", asAlice, events.APISubject("alice", wire.VerbList), body))
	}
	for _, subject := range []string{
		"hersh.api.alice.get.bob", "hersh.api.alice.>", "hersh.api.ali\u0001ce.get", "hersh.api..get", "hersh.events.alice.*.UserStopRequested", "hersh.events.alice.>",
		"hersh.api.alice/../bob.get", "HERSH.API.BOB.GET",
	} {
		out = append(out, ask("malformed request", asAlice, subject, `{}`))
	}
	out = append(out, attack{kind: "malformed request", as: asAlice, name: "more than the account may send", try: func(a *attacker) string {
		big := a.s.Conn(a.t, asAlice, nats.MaxReconnects(0))
		_ = big.Publish(events.EventSubject(a.own, events.TypeUserStopRequested), make([]byte, 600<<10))
		_ = big.Flush()
		return ""
	}})
	header := func(name, value string) attack {
		return attack{kind: "header", as: asAlice, name: name + ": " + value, logged: true, try: func(a *attacker) string {
			a.publish(events.EventSubject(a.own, events.TypeUserStopRequested), "", `{}`, nats.Header{name: {value}})
			return ""
		}}
	}
	return append(out,
		header("Nats-Trace-Dest", events.EventSubject(f.victim, events.TypeUserStopRequested)),
		header("Nats-Rollup", "all"), header("Nats-Rollup", "sub"), header("Nats-TTL", "1s"), header("Nats-Expected-Stream", events.ProgramStream(f.victim)),
		header("Nats-Schedule", "@every 1s"), header("Nats-Schedule-Target", events.EventSubject(f.victim, events.TypeUserStopRequested)),
		header("Nats-Batch-Id", "x"), header("Nats-Request-Info", `{"acc":"HERSH"}`), header("Nats-Subject", events.EventSubject(f.victim, events.TypeUserStopRequested)),
		header("Nats-Stream", events.ProgramStream(f.victim)), header("Nats-Msg-Id", string(f.victim)+"/created"), header("KV-Operation", "PURGE"),
		header("Nats-Service-Error-Code", "200"), header("Nats-Marker-Reason", "Purge"),
	)
}

// malformedUploads are uploads that must leave nothing behind.
func (f *field) malformedUploads() []attack {
	var out []attack
	add := func(verb, body string) {
		out = append(out, ask("malformed upload", asAlice, events.APISubject("alice", verb), body))
	}
	for _, verb := range uploadVerbs {
		for _, body := range []string{
			`[]`, `{"unknown":1}`, "\xff", `{"upload":1}`, `{"sourceDigest":"../../x","bytes":1}`, `{"upload":"*"}`, `{"upload":"` + strings.Repeat("a", 300) + `"}`,
			`{"upload":"` + bobsUpload + `\u0000"}`, strings.Repeat(`{"a":`, 10_000), `{"upload":"` + strings.Repeat("x", 200_000) + `"}`,
		} {
			add(verb, body)
		}
	}
	for _, bytes := range []string{"0", "-1", "9223372036854775807", "1e30", `"1"`} {
		add(wire.VerbUploadBegin, fmt.Sprintf(`{"sourceDigest":%q,"bytes":%s}`, digest, bytes))
	}
	for _, offset := range []string{"-131072", "1", "9223372036854644736", "1e30"} {
		add(wire.VerbUploadChunk, fmt.Sprintf(`{"upload":%q,"offset":%s,"data":"eA=="}`, bobsUpload, offset))
	}
	add(wire.VerbUploadChunk, fmt.Sprintf(`{"upload":%q,"offset":0,"data":""}`, bobsUpload))
	add(wire.VerbUploadChunk, fmt.Sprintf(`{"upload":%q,"offset":0,"data":"not base64!"}`, bobsUpload))
	add(wire.VerbUploadCommit, fmt.Sprintf(`{"upload":%q,"sourceDigest":%q}`, strings.Repeat("0", 32), strings.Repeat("0", 64)))
	return out
}

// TestAttacks runs the table against a Hersh that works, with the rights that the configuration gives.
func TestAttacks(t *testing.T) {
	f := newField(t)
	start := f.snapshot()
	kinds := map[string]int{}
	table := f.attacks()
	for _, row := range table {
		kinds[row.kind]++
		f.run(row)
	}
	if len(table) < 60 {
		t.Errorf("%d attacks, want at least 60", len(table))
	}
	end := f.consequences()
	for name, value := range start {
		if strings.HasPrefix(name, "settings of") && end[name] != value {
			t.Errorf("at the end: %s is %s, was %s", name, end[name], value)
		}
	}
	f.everybodyWorks()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, what := range f.heard {
		t.Errorf("heard %s", what)
	}
	t.Logf("%d attacks: %v", len(table), kinds)
}

func (f *field) run(row attack) {
	look := f.snapshot
	if row.logged {
		look = f.consequences
	}
	before := f.last
	if before == nil || row.logged {
		before = look()
	}
	if got := row.try(f.as(row.as)); got != "" {
		f.t.Errorf("%s: %s as %s was answered: %.300s", row.kind, row.name, row.as, got)
	}
	if row.logged {
		f.reconciled()
	}
	after := look()
	f.last = after
	if row.logged {
		f.last = nil
	}
	if row.itself != "" {
		for _, name := range []string{row.itself, "queue"} {
			delete(before, name)
			delete(after, name)
		}
	}
	for _, change := range before.diff(after) {
		f.t.Errorf("%s: %s as %s changed something: %s", row.kind, row.name, row.as, change)
	}
}

// everybodyWorks makes the traffic that eavesdroppers would hear, through the same queues as the attacks went.
func (f *field) everybodyWorks() {
	ctx := f.t.Context()
	f.settle("bob", f.victim, reducer.StateStopped, (*client.Client).Stop)
	f.settle("bob", f.victim, reducer.StateReady, (*client.Client).Start)
	f.must(f.s.Bus(f.t, asH2, bus.Options{Bind: true}).ShipLog(ctx, f.victim, events.LogStdout, "", []byte("more of bob's output")))
	f.must(f.bus.ShipLog(ctx, f.victim, events.LogStdout, "", []byte("and more")))
	for key, a := range f.conns { // Whatever was on its way has arrived after this.
		if err := a.nc.Flush(); err != nil && key != asAlice {
			f.t.Errorf("connection of %s: %v", key, err)
		}
	}
}

// TestNobodyElseConnects tries to get in at all.
func TestNobodyElseConnects(t *testing.T) {
	f := newField(t)
	stranger, err := nkeys.CreateUser()
	f.must(err)
	public, err := stranger.PublicKey()
	f.must(err)
	alice := f.as(asAlice)
	m, err := f.s.Dir.Load()
	f.must(err)
	for name, opts := range map[string][]nats.Option{
		"without a key":                {},
		"with a name":                  {nats.UserInfo("alice", "alice")},
		"with the name of an account":  {nats.UserInfo("HERSH", "")},
		"with a token":                 {nats.Token("token")},
		"with a key of its own":        {nats.Nkey(public, stranger.Sign)},
		"as alice, without her secret": {nats.Nkey(string(m.Tenants["alice"]), stranger.Sign)},
		"as the supervisor":            {nats.Nkey(string(m.Supervisor), stranger.Sign)},
		"with a public key as name":    {nats.UserInfo(string(m.Provisioner), "")},
	} {
		nc, err := nats.Connect(f.s.URL, append(opts, nats.MaxReconnects(0))...)
		if err == nil {
			nc.Close()
			t.Errorf("%s: let in", name)
		}
	}
	before := f.snapshot()
	f.must(f.s.Dir.RemoveTenant("alice"))
	f.must(f.s.Server.Reload())
	if alice.nc.Flush() == nil && alice.ask(events.APISubject("alice", wire.VerbList), `{}`, nil) != "" {
		t.Error("a tenant that was removed is still answered")
	}
	for _, change := range before.diff(f.snapshot()) {
		t.Errorf("removing a tenant: %s", change)
	}
}

// TestHeadersOfATenantForgeNoResult has a tenant publish what she may, with headers that call it a result, while her program is in the
// state that waits for it. The log must say what she published, and the program do that; with one forged BuildFinished she would run
// any image that is on the host.
func TestHeadersOfATenantForgeNoResult(t *testing.T) {
	f := newField(t)
	image := "hersh/" + string(f.victim)
	origin := `"hostId":"h1","attempt":1,`
	alice := f.as(asAlice)
	forge := func(typ events.Type, body string) {
		alice.publish(events.EventSubject(f.own, events.TypeUserStopRequested), "", body, nats.Header{
			"Nats-Subject": {events.EventSubject(f.own, typ)}, "Nats-Stream": {events.ProgramStream(f.own)},
		})
	}
	f.settle("alice", f.own, reducer.StateReady, (*client.Client).Start)
	forge(events.TypeRuntimeExited, `{"hostId":"h2","attempt":1,"exitCode":3}`)
	alice.publish(events.EventSubject(f.own, events.TypeUserStartRequested), "", `{}`, nil)
	forge(events.TypeBuildFinished, `{`+origin+`"success":true,"imageId":"`+image+`"}`)
	forge(events.TypeRuntimeStarted, `{`+origin+`"containerId":"x"}`)
	f.settle("alice", f.own, reducer.StateStopped, (*client.Client).Stop)
	stops := 0
	for stored, err := range f.bus.Read(t.Context(), f.own, 0) {
		f.must(err)
		if strings.Contains(string(stored.Data), image) || strings.Contains(string(stored.Data), `"exitCode":3`) {
			stops++
			if stored.Type != events.TypeUserStopRequested {
				t.Errorf("event %d passes for %s: %s", stored.Seq, stored.Type, stored.Data)
			}
		}
	}
	if stops != 2 {
		t.Errorf("%d forged events are in the log, want 2", stops)
	}
}
