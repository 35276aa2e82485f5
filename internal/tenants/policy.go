package tenants

import (
	"slices"

	"github.com/rlaaudgjs5638/hersh/events"
)

// tokenOfUser is where a tenant's name is in hersh.events.<user>.…, hersh.api.<user>.… and hersh.logs.<user>.…: the server counts from 1,
// and compares with the name of the importing account.
const tokenOfUser = 3

// export is a subject of the account of Hersh that other accounts may import: each whose name is at the token position, or those
// that are listed. A service is sent to and answers; a stream is listened to.
//
// The server looks for an export of exactly the imported subject, and else takes any that matches, in no order. So no two exports
// overlap where one of them is imported by less than its whole subject.
type export struct {
	service, stream string
	streamed        bool // The service may answer more than once.
	position        int
	accounts        []string
}

func userEvents() []events.Type {
	return []events.Type{events.TypeUserStartRequested, events.TypeUserStopRequested, events.TypeUserRestartRequested}
}

func resultEvents() []events.Type {
	return []events.Type{
		events.TypeFoldersEnsured, events.TypeBuildFinished, events.TypeRuntimeStarted,
		events.TypeStartFailed, events.TypeRuntimeExited, events.TypeStopFinished,
	}
}

// eventsOf is an event type of some programs; user and program may be "*".
func eventsOf(user string, typ events.Type) string {
	return "hersh.events." + user + ".*." + string(typ)
}

// exports are what leaves the account of Hersh. An export for hosts is left out where there are none, since an empty list would let
// everybody in.
func exports(m Model) []export {
	var out []export
	for _, typ := range userEvents() {
		out = append(out, export{service: eventsOf("*", typ), position: tokenOfUser})
	}
	out = append(out, export{service: "hersh.api.*.>", position: tokenOfUser})
	out = append(out, export{stream: "hersh.logs.*.*.*", position: tokenOfUser})
	for _, user := range sortedTenants(m) {
		// By name and not by position: hosts import the whole feed, which overlaps.
		out = append(out, export{stream: "hersh.feed." + string(user) + ".*.*", accounts: []string{string(user)}})
	}
	all := hostAccounts(m)
	if len(all) == 0 {
		return out
	}
	for _, imp := range sharedHostImports() {
		out = append(out, export{service: imp.service, stream: imp.stream, streamed: imp.streamed, accounts: all})
	}
	for _, host := range sortedHosts(m) {
		for _, imp := range ownHostImports(host) {
			out = append(out, export{service: imp.service, stream: imp.stream, streamed: imp.streamed, accounts: []string{HostAccount(host)}})
		}
	}
	return out
}

// crossing is an import from the account of Hersh. local is the subject that it has in the importing account, "" for the same.
type crossing struct {
	service, stream, local string
	streamed               bool
}

// tenantImports is everything that a tenant reaches: nothing that does not have the tenant's own name in it.
func tenantImports(user events.UserID) []crossing {
	var out []crossing
	for _, typ := range userEvents() {
		out = append(out, crossing{service: eventsOf(string(user), typ)})
	}
	return append(out,
		crossing{service: "hersh.api." + string(user) + ".>"},
		crossing{stream: "hersh.feed." + string(user) + ".*.*"},
		crossing{stream: "hersh.logs." + string(user) + ".*.*"},
	)
}

// sharedHostImports is what every host reaches: any program may be given to any host, so each may read every log and every source.
// The server's wildcards stand for whole tokens, and a stream's name is one, so that these cannot be narrowed to some streams.
func sharedHostImports() []crossing {
	out := []crossing{
		{service: "hersh.logs.*.*.*"},
		{stream: "hersh.feed.*.*.*"},
		{service: "$JS.API.INFO"},
		{service: "$JS.API.STREAM.INFO.*"},
		{service: "$JS.API.DIRECT.GET.*", streamed: true},
		{service: "$JS.API.DIRECT.GET.*.>"},
		{service: "$JS.API.STREAM.MSG.GET.*"}, // What has headers that cannot be believed is asked for again.
	}
	return append(out, queueImports("")...)
}

// ownHostImports is what one host alone reaches. What it publishes as the event of a program goes by way of the request API, which sees
// by the subject which host it is, and stores only what this host may say.
func ownHostImports(host events.HostID) []crossing {
	out := []crossing{
		{service: "$KV." + events.BucketHosts + "." + string(host)},
		{service: events.HostRegisterSubject(host), local: events.SubjectHostsRegister},
	}
	for _, typ := range resultEvents() {
		out = append(out, crossing{service: events.ResultSubject(host, "*", "*", typ), local: eventsOf("*", typ)})
	}
	return append(out, queueImports(host)...)
}

// queueImports is what it takes to work off the queues of a host; "" is that of any.
func queueImports(host events.HostID) []crossing {
	var out []crossing
	for _, class := range []events.Class{events.ClassBuild, events.ClassRun} {
		queue := events.StreamEffects + "." + events.EffectsQueue(host, class)
		out = append(out,
			crossing{service: "$JS.API.CONSUMER.INFO." + queue},
			crossing{service: "$JS.API.CONSUMER.MSG.NEXT." + queue, streamed: true},
			crossing{service: "$JS.ACK." + queue + ".>"},
		)
	}
	return out
}

// subjectUserInfo is where the server tells a user its own account and permissions, and nothing of others.
const subjectUserInfo = "$SYS.REQ.USER.INFO"

// permissions are the subjects that a user may publish to and subscribe to.
type permissions struct {
	publish, denyPublish []string
	subscribe            []string
}

func tenantPermissions(user events.UserID, key PublicKey) permissions {
	p := permissions{publish: []string{subjectUserInfo}, subscribe: []string{
		"hersh.feed." + string(user) + ".>", "hersh.logs." + string(user) + ".>",
		// The account is the tenant's alone, so the usual inbox of any NATS client is as good as its own.
		"_INBOX.>", InboxPrefix(key) + ".>",
	}}
	for _, imp := range tenantImports(user) {
		if imp.service != "" {
			p.publish = append(p.publish, imp.service)
		}
	}
	return p
}

// hostPermissions only narrow what the imports of a host's account let through: what is not imported reaches nobody, and is answered
// "no responders" at once where a permission would let the request time out.
func hostPermissions(key PublicKey) permissions {
	p := permissions{
		publish:   []string{"hersh.events.*.*.*", "hersh.logs.*.*.*", events.SubjectHostsRegister, "$JS.API.>", "$JS.ACK.>", "$KV.>"},
		subscribe: []string{"hersh.feed.>", InboxPrefix(key) + ".>"},
	}
	for _, stream := range hiddenFromHosts() {
		p.denyPublish = append(p.denyPublish,
			"$JS.API.DIRECT.GET."+stream, "$JS.API.DIRECT.GET."+stream+".>", "$JS.API.STREAM.MSG.GET."+stream)
	}
	return p
}

// hiddenFromHosts are the streams that no host has to read, of those whose names are known.
func hiddenFromHosts() []string {
	return []string{events.StreamLogs, events.StreamEffects, events.StreamWake, events.StreamUploads, "KV_" + events.BucketHosts, "KV_" + events.BucketLeases}
}

// sharedStreams are the streams that a provisioner makes, and that no supervisor may change or delete.
func sharedStreams() []string {
	return []string{
		events.StreamWake, events.StreamEffects, events.StreamLogs, events.StreamUploads,
		"KV_" + events.BucketPrograms, "KV_" + events.BucketHosts, "KV_" + events.BucketLeases, "KV_" + events.BucketDrains, "KV_" + events.BucketDeleted, "OBJ_" + events.BucketSources,
	}
}

// supervisorPermissions are the subjects that the loop of a supervisor and the request API use. A stream's name is one token, so
// creating and deleting the streams of programs is allowed for all names, and then denied for those that are not programs'.
func supervisorPermissions(m Model) permissions {
	effects, wake := events.StreamEffects, events.StreamWake
	p := permissions{
		publish: []string{
			"$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES",
			"$JS.API.DIRECT.GET.*", "$JS.API.DIRECT.GET.*.>", "$JS.API.STREAM.MSG.GET.*",
			"$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.DELETE.*",
			"$JS.API.STREAM.PURGE." + events.StreamLogs, "$JS.API.STREAM.PURGE." + events.StreamUploads,
			"$JS.API.STREAM.PURGE.OBJ_" + events.BucketSources,
			"$JS.API.CONSUMER.CREATE." + wake + ".>", "$JS.API.CONSUMER.INFO." + wake + ".*",
			"$JS.API.CONSUMER.MSG.NEXT." + wake + ".*", "$JS.ACK." + wake + ".>",
			"$JS.API.CONSUMER.CREATE." + effects + ".>",
			"$JS.API.STREAM.MSG.DELETE." + effects, // What waits for a host that is lost, or of a program that was deleted.
			"$KV." + events.BucketPrograms + ".>", "$KV." + events.BucketLeases + ".>", "$KV." + events.BucketDrains + ".>",
			"$KV." + events.BucketDeleted + ".>", "$O." + events.BucketSources + ".>",
			events.SubjectsEffects, eventsOf("*", events.TypeProgramCreated), eventsOf("*", events.TypeHostLost), eventsOf("*", events.TypeHostDrained),
			events.UploadSubjects("*"),
			// Answers: across accounts they go to subjects that the server makes, and within this one to the operator.
			"_R_.>", InboxPrefix(m.Provisioner) + ".>",
		},
		subscribe: []string{
			"hersh.api.>", events.SubjectHostsRegister, events.SubjectHostsRegister + ".*", events.SubjectHostsList, events.SubjectHostsDrain, events.SubjectProgramsList,
			"hersh.feed.>", events.ResultSubject("*", "*", "*", "*"), "$SRV.>", InboxPrefix(m.Supervisor) + ".>",
		},
	}
	for _, typ := range resultEvents() { // It stores those of hosts.
		p.publish = append(p.publish, eventsOf("*", typ))
	}
	for _, stream := range sharedStreams() {
		p.denyPublish = append(p.denyPublish, "$JS.API.STREAM.DELETE."+stream)
		if stream != wake { // It is in memory, and made again by whoever finds it gone.
			p.denyPublish = append(p.denyPublish, "$JS.API.STREAM.CREATE."+stream, "$JS.API.STREAM.UPDATE."+stream)
		}
	}
	slices.Sort(p.denyPublish)
	return p
}

// provisionerPermissions let an operator do everything in the account of Hersh; only its inbox is its own.
func provisionerPermissions(m Model) permissions {
	return permissions{
		publish:   []string{">"},
		subscribe: []string{"hersh.>", InboxPrefix(m.Provisioner) + ".>"},
	}
}
