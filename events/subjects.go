package events

import (
	"fmt"
	"strings"
)

// Every name on the bus is built here. Tokens that come from outside were parsed before: the types say so.
const (
	// StreamWake is the work queue of wake-ups, at most one a program.
	StreamWake = "HERSH_WAKE"
	// StreamEffects is the work queue of effects.
	StreamEffects = "HERSH_EFFECTS"
	// StreamLogs holds the output of builds and programs.
	StreamLogs = "HERSH_LOGS"
	// StreamUploads holds the chunks of uploads that are not complete.
	StreamUploads = "HERSH_UPLOADS"
	// BucketLeases is the KV bucket of who does what only one needs to do.
	BucketLeases = "HERSH_LEASES"
	// BucketPrograms is the KV bucket of checkpoints, the read model.
	BucketPrograms = "HERSH_PROGRAMS"
	// BucketHosts is the KV bucket of heartbeats.
	BucketHosts = "HERSH_HOSTS"
	// BucketDrains is the KV bucket of hosts that are to take no new program.
	BucketDrains = "HERSH_DRAINS"
	// BucketDeleted is the KV bucket of programs that were deleted.
	BucketDeleted = "HERSH_DELETED"
	// BucketSources is the object store of source tarballs.
	BucketSources = "HERSH_SOURCES"

	// ServiceName is the name of the NATS micro service that serves the request API.
	ServiceName = "hersh"

	streamProgramPrefix = "PROGRAM-"
	prefixEvents        = "hersh.events"
	prefixFeed          = "hersh.feed"
	prefixWake          = "hersh.wake"
	prefixEffects       = "hersh.effects"
	prefixLogs          = "hersh.logs"
	prefixAPI           = "hersh.api"
	prefixUploads       = "hersh.uploads"
	prefixResults       = "hersh.results"

	// SubjectsEvents are the events of all programs.
	SubjectsEvents = prefixEvents + ".*.*.*"
	// SubjectsFeed is every message of the live feed; SubjectsWake what HERSH_WAKE makes of them, by the wildcards'
	// numbers.
	SubjectsFeed  = prefixFeed + ".*.*.*"
	TransformWake = prefixWake + ".{{wildcard(1)}}.{{wildcard(2)}}"
	// SubjectsEffects and SubjectsLogs are all subjects of their streams.
	SubjectsEffects = prefixEffects + ".*.*.*.*"
	SubjectsLogs    = prefixLogs + ".*.*.*"
	// SubjectHostsRegister is the API request by which an executor makes its host known.
	SubjectHostsRegister = "hersh.hosts.register"
	// SubjectHostsList, SubjectHostsDrain and SubjectProgramsList are the requests of operators, over all hosts and all users.
	SubjectHostsList    = "hersh.hosts.list"
	SubjectHostsDrain   = "hersh.hosts.drain"
	SubjectProgramsList = "hersh.programs.list"
)

// Class says which of an executor's queues takes an effect: a stop must never wait behind builds.
type Class string

// The classes of effects.
const (
	ClassBuild Class = "build"
	ClassRun   Class = "run"
)

// LogStream is one of the outputs that are kept of a program.
type LogStream string

// The log streams of a program.
const (
	LogStdout LogStream = "stdout"
	LogStderr LogStream = "stderr"
	LogBuild  LogStream = "build"
)

// ProgramStream names the stream of a program in the layout of one stream per program.
func ProgramStream(id ProgramID) string { return streamProgramPrefix + string(id) }

// ParseProgramStream returns the program whose stream it is, and whether it is one.
func ParseProgramStream(stream string) (ProgramID, bool) {
	rest, found := strings.CutPrefix(stream, streamProgramPrefix)
	if !found {
		return "", false
	}
	id, err := ParseProgramID(rest)
	return id, err == nil
}

// EventSubject is where an event of a program is published.
func EventSubject(id ProgramID, typ Type) string {
	return programSubject(prefixEvents, id) + string(typ)
}

// EventSubjects are all events of a program.
func EventSubjects(id ProgramID) string { return programSubject(prefixEvents, id) + "*" }

// UserEventSubjects are all events of all programs of a user.
func UserEventSubjects(user UserID) string { return prefixEvents + "." + string(user) + ".*.*" }

// FeedSubject is where the server republishes the events of a program once they are stored; "*" for typ is all of them.
func FeedSubject(id ProgramID, typ Type) string { return programSubject(prefixFeed, id) + string(typ) }

// UserFeedSubjects are the feeds of all programs of a user; "*" is every user's.
func UserFeedSubjects(user UserID) string { return prefixFeed + "." + string(user) + ".*.*" }

// LogSubject is where the output of a program is published; "*" for stream is all of it.
func LogSubject(id ProgramID, stream LogStream) string {
	return programSubject(prefixLogs, id) + string(stream)
}

// UserLogSubjects are the subjects of the output of all programs of a user.
func UserLogSubjects(user UserID) string { return prefixLogs + "." + string(user) + ".*.*" }

// UserOfLogSubject returns whose program's output a subject is of.
func UserOfLogSubject(subject string) (UserID, error) {
	rest, found := strings.CutPrefix(subject, prefixLogs+".")
	user, _, more := strings.Cut(rest, ".")
	if !found || !more {
		return "", fmt.Errorf("%w: %s is no log subject", ErrInvalidID, quote(subject))
	}
	return ParseUserID(user)
}

// EffectsSubject is where the effects of a program for a host are published; "" is the queue of any host that has room. The program is
// part of it so that what waits of each can be bounded by itself.
func EffectsSubject(host HostID, class Class, id ProgramID) string {
	return queueOfPrograms(host, class) + "." + string(id.User()) + "." + string(id)
}

// EffectsSubjects are the effects of all programs in one queue; "*" for class is both queues of a host.
func EffectsSubjects(host HostID, class Class) string { return queueOfPrograms(host, class) + ".*.*" }

// ProgramEffects are the effects of a program in all queues.
func ProgramEffects(id ProgramID) string { return EffectsSubject("*", "*", id) }

// FormerEffectsSubject is where versions before published the effects of all programs. What an upgrade finds there is still taken.
func FormerEffectsSubject(host HostID, class Class) string { return queueOfPrograms(host, class) }

func queueOfPrograms(host HostID, class Class) string {
	return prefixEffects + "." + target(host) + "." + string(class)
}

// EffectsQueue names the consumer that works off the effects for a host.
func EffectsQueue(host HostID, class Class) string { return target(host) + "-" + string(class) }

// ParseEffectsQueue returns the host and the class of a consumer that EffectsQueue named.
func ParseEffectsQueue(name string) (HostID, Class, error) {
	last := strings.LastIndexByte(name, '-')
	class := Class(name[last+1:])
	if last < 0 || class != ClassBuild && class != ClassRun {
		return "", "", fmt.Errorf("%w: %s is no queue of effects", ErrInvalidID, quote(name))
	}
	if name[:last] == anyHostTarget {
		return "", class, nil
	}
	host, err := ParseHostID(name[:last])
	if err != nil {
		return "", "", err
	}
	return host, class, nil
}

func target(host HostID) string {
	if host == "" {
		return anyHostTarget
	}
	return string(host)
}

// HostRegisterSubject is where the request of a host arrives that only this host can send: its account has no other.
func HostRegisterSubject(host HostID) string { return SubjectHostsRegister + "." + string(host) }

// ResultSubject is where a result arrives that only this host can have sent, where hosts have accounts: what a host publishes to the
// subject of an event gets there. user and program may be "*".
func ResultSubject(host HostID, user, program string, typ Type) string {
	return prefixResults + "." + string(host) + "." + user + "." + program + "." + string(typ)
}

// ParseResultSubject returns the host that a result is from, its program and its type.
func ParseResultSubject(subject string) (HostID, ProgramID, Type, error) {
	rest, found := strings.CutPrefix(subject, prefixResults+".")
	first, last := strings.IndexByte(rest, '.'), strings.LastIndexByte(rest, '.')
	if !found || first < 0 || first == last {
		return "", "", "", fmt.Errorf("%w: %s is no result subject", ErrInvalidID, quote(subject))
	}
	host, err := ParseHostID(rest[:first])
	if err != nil {
		return "", "", "", err
	}
	id, err := parseUserProgram(rest[first+1 : last])
	if err != nil {
		return "", "", "", err
	}
	return host, id, Type(rest[last+1:]), nil
}

// UploadSubject is where the chunks of one upload of a user are kept until it is complete.
func UploadSubject(user UserID, upload string) string {
	return prefixUploads + "." + string(user) + "." + upload
}

// UploadSubjects are all uploads of a user; "*" is every user's.
func UploadSubjects(user UserID) string { return UploadSubject(user, "*") }

// APISubject is the subject of a request of a user; "*" for user is what the service listens on.
func APISubject(user UserID, verb string) string {
	return prefixAPI + "." + string(user) + "." + verb
}

// CheckpointKey is the program's key in BucketPrograms.
func CheckpointKey(id ProgramID) string { return string(id.User()) + "." + string(id) }

// UserCheckpointKeys are the keys of all programs of a user.
func UserCheckpointKeys(user UserID) string { return string(user) + ".*" }

// ParseCheckpointKey returns the program whose key it is.
func ParseCheckpointKey(key string) (ProgramID, error) { return parseUserProgram(key) }

// SourceKey is the name of a source tarball in BucketSources.
func SourceKey(user UserID, build BuildID) string { return string(user) + "." + string(build) }

// EventType returns the last token of a subject, which is the type of an event, or the log stream of a log subject.
func EventType(subject string) Type { return Type(subject[strings.LastIndexByte(subject, '.')+1:]) }

// ParseWakeSubject returns the program that a wake-up is for.
func ParseWakeSubject(subject string) (ProgramID, error) {
	rest, found := strings.CutPrefix(subject, prefixWake+".")
	if !found {
		return "", fmt.Errorf("%w: %s is no wake-up subject", ErrInvalidID, quote(subject))
	}
	return parseUserProgram(rest)
}

// ParseFeedSubject returns the program and the type of a message on the live feed.
func ParseFeedSubject(subject string) (ProgramID, Type, error) {
	rest, found := strings.CutPrefix(subject, prefixFeed+".")
	last := strings.LastIndexByte(rest, '.')
	if !found || last < 0 {
		return "", "", fmt.Errorf("%w: %s is no feed subject", ErrInvalidID, quote(subject))
	}
	id, err := parseUserProgram(rest[:last])
	if err != nil {
		return "", "", err
	}
	return id, Type(rest[last+1:]), nil
}

// ParseAPISubject returns the user and the verb of a request.
func ParseAPISubject(subject string) (UserID, string, error) {
	rest, found := strings.CutPrefix(subject, prefixAPI+".")
	user, verb, _ := strings.Cut(rest, ".")
	if !found || verb == "" {
		return "", "", fmt.Errorf("%w: %s is no API subject", ErrInvalidID, quote(subject))
	}
	id, err := ParseUserID(user)
	if err != nil {
		return "", "", err
	}
	return id, verb, nil
}

func programSubject(prefix string, id ProgramID) string {
	return prefix + "." + string(id.User()) + "." + string(id) + "."
}

func parseUserProgram(tokens string) (ProgramID, error) {
	user, program, _ := strings.Cut(tokens, ".")
	id, err := ParseProgramID(program)
	if err != nil {
		return "", err
	}
	if string(id.User()) != user {
		return "", fmt.Errorf("%w: program ID %s is not one of user %s", ErrInvalidID, id, quote(user))
	}
	return id, nil
}
