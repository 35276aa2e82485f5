// Package wire is the request API of Hersh as JSON: what is sent to the subjects hersh.api.<user>.<verb> and what comes
// back. It holds data only. The service that answers and the Go SDK both use it; programs in other languages can read it
// as the reference.
//
// A request is one JSON object; unknown fields are refused, and an empty request is {}. A reply is one JSON object. An error
// is an empty reply with the headers of NATS micro services: Nats-Service-Error-Code, one of the codes below, and
// Nats-Service-Error, a sentence for people.
package wire

import (
	"encoding/json"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// The verbs of hersh.api.<user>.<verb>.
const (
	VerbCreate  = "create"
	VerbList    = "list"
	VerbGet     = "get"
	VerbHistory = "history"
	VerbLogs    = "logs"
	VerbDelete  = "delete"

	VerbUploadBegin  = "upload-begin"
	VerbUploadChunk  = "upload-chunk"
	VerbUploadCommit = "upload-commit"
)

// The codes of errors.
const (
	CodeBadRequest = 400 // The request cannot be understood, or asks for what cannot be.
	CodeQuota      = 403 // The user has as much as they may have.
	CodeNotFound   = 404 // There is no such program of this user.
	CodeConflict   = 409 // The program, or what it needs, is not in a state that allows it.
	CodeBusy       = 429 // Too many requests are waiting; try again.
	CodeInternal   = 500 // Hersh could not; try again. The log of the supervisor says why.
)

// Bounds of requests and replies.
const (
	MaxRequestBytes = 16 << 10
	MaxPageBytes    = 500_000 // JSON of one page, its frame excluded.
	MaxPageItems    = 1000    // Also the default of every limit.
	MaxRejectedData = 1 << 10 // Bytes that a step shows of an event that does not decode.
	MaxChunkBytes   = 256 << 10
)

// UploadChunkBytes is how long every chunk of an upload is, but for the last, and MaxChunkRequestBytes how long its request may be.
const (
	UploadChunkBytes     = 128 << 10
	MaxChunkRequestBytes = 192 << 10
)

// UploadBeginRequest asks whether a source must be uploaded, and begins it.
type UploadBeginRequest struct {
	SourceDigest events.SourceDigest `json:"sourceDigest"`
	Bytes        int64               `json:"bytes"`
}

// UploadBeginReply names the upload, or says that the source is there.
type UploadBeginReply struct {
	Exists     bool   `json:"exists"`
	Upload     string `json:"upload,omitempty"`
	ChunkBytes int    `json:"chunkBytes"`
}

// UploadChunkRequest sends a chunk. They are sent in order; one may be repeated.
type UploadChunkRequest struct {
	Upload string `json:"upload"`
	Offset int64  `json:"offset"`
	Data   []byte `json:"data"` // In base64.
}

// UploadChunkReply says where the next chunk begins.
type UploadChunkReply struct {
	Next int64 `json:"next"`
}

// UploadCommitRequest ends an upload. The digest of what was sent must be this one.
type UploadCommitRequest struct {
	Upload       string              `json:"upload"`
	SourceDigest events.SourceDigest `json:"sourceDigest"`
}

// UploadCommitReply names the build that the source is of.
type UploadCommitReply struct {
	BuildID events.BuildID `json:"buildId"`
}

// CreateRequest creates a program from a source that was uploaded before.
type CreateRequest struct {
	// ProgramID may be made by the client, so that a repeated request creates one program; "" lets the service make one.
	ProgramID    events.ProgramID    `json:"programId,omitempty"`
	SourceDigest events.SourceDigest `json:"sourceDigest"`
	Limits       events.Limits       `json:"limits,omitzero"`
}

// CreateReply names the program that was created, now or by an earlier request of the same ProgramID.
type CreateReply struct {
	ProgramID events.ProgramID `json:"programId"`
	BuildID   events.BuildID   `json:"buildId"`
}

// ListRequest asks for a page of programs, sorted by their ID.
type ListRequest struct {
	After events.ProgramID `json:"after,omitempty"` // "" begins at the first.
	Limit int              `json:"limit,omitempty"`
}

// ListReply is a page of the read model. It may be some milliseconds behind the logs.
type ListReply struct {
	Programs []reducer.Checkpoint `json:"programs"`
	Next     events.ProgramID     `json:"next,omitempty"` // The After of the next page; "" says that this was the last.
}

// ProgramRequest names one program, for the verbs get and delete.
type ProgramRequest struct {
	ProgramID events.ProgramID `json:"programId"`
}

// GetReply is the newest state of a program, as its log has it.
type GetReply struct {
	reducer.Checkpoint
	Since   time.Time `json:"since,omitzero"`    // When the program came into its State; zero where that is not known.
	Waiting string    `json:"waiting,omitempty"` // Why it waits for a host, a sentence; "" where it does not.
}

// DeleteReply names the program that was deleted.
type DeleteReply struct {
	ProgramID events.ProgramID `json:"programId"`
}

// At is a point in the past of a program: a sequence or a time, not both.
type At struct {
	Seq  uint64    `json:"seq,omitempty"`
	Time time.Time `json:"time,omitzero"`
}

// HistoryRequest asks for a page of what each event did.
type HistoryRequest struct {
	ProgramID events.ProgramID `json:"programId"`
	After     uint64           `json:"after,omitempty"`  // Sequence; 0 begins at the first event.
	Limit     int              `json:"limit,omitempty"`  // Of steps.
	States    bool             `json:"states,omitempty"` // Give each step the whole state after it.
	At        *At              `json:"at,omitempty"`     // Look at the log as it was then, and give the state of then too.
}

// HistoryReply is a page of the history.
type HistoryReply struct {
	Steps []Step              `json:"steps"`
	Next  uint64              `json:"next"`         // The After of the next page.
	More  bool                `json:"more"`         // There are steps after this page by now.
	Head  uint64              `json:"head"`         // Sequence of the last event of the log.
	At    *reducer.Checkpoint `json:"at,omitempty"` // The state as of the request's At.
}

// Step is what one event of a log did.
type Step struct {
	Seq   uint64          `json:"seq"`
	Time  time.Time       `json:"time"` // When the server stored it.
	Type  events.Type     `json:"type"`
	Event json.RawMessage `json:"event,omitempty"` // As Hersh writes it; missing when it was rejected.

	Rejected string `json:"rejected,omitempty"` // Why the event does not count; "" where it does.
	Data     []byte `json:"data,omitempty"`     // The beginning of what was published, when it was rejected.
	Ignored  string `json:"ignored,omitempty"`  // Why an event that decodes changed nothing; "" where it did.

	From    reducer.State         `json:"from"`
	To      reducer.State         `json:"to"`
	Host    events.HostID         `json:"host,omitempty"`    // Where the event comes from, or else where its effects go.
	Attempt uint64                `json:"attempt,omitempty"` // Of the program, after the event.
	Effects []json.RawMessage     `json:"effects,omitempty"` // Each an object with its "type".
	State   *reducer.ProgramState `json:"state,omitempty"`   // After the event, when it was asked for.
}

// LogsRequest asks for a page of what a program or its builds printed.
type LogsRequest struct {
	ProgramID events.ProgramID `json:"programId"`
	Stream    events.LogStream `json:"stream,omitempty"` // "stdout", "stderr", "build"; "" is what the program itself printed.
	After     uint64           `json:"after,omitempty"`  // Sequence; 0 begins at the oldest that is kept.
	Limit     int              `json:"limit,omitempty"`  // Of chunks.
}

// LogsReply is a page of output.
type LogsReply struct {
	Chunks []Chunk `json:"chunks"`
	Next   uint64  `json:"next"` // The After of the next page.
	More   bool    `json:"more"` // There may be more right now, even where this page is empty.
}

// Chunk is a piece of output. Chunks do not end at line ends.
type Chunk struct {
	Seq       uint64           `json:"seq"`
	Time      time.Time        `json:"time"`
	Stream    events.LogStream `json:"stream"`
	Data      []byte           `json:"data"`                // Any bytes, in base64.
	Truncated bool             `json:"truncated,omitempty"` // It was longer than MaxChunkBytes.
}

// HostsReply is the hosts whose executors are there, and those that are drained, sorted by their ID.
type HostsReply struct {
	Hosts []Host `json:"hosts"`
}

// Host is what is known of a host. Drained, in its heartbeat, says that it obeys.
type Host struct {
	events.Heartbeat
	Drain bool `json:"drain,omitempty"` // It is to take no new program.
	Away  bool `json:"away,omitempty"`  // It sends no heartbeat.
}

// DrainRequest says whether a host is to take new programs. Repeating it changes nothing.
type DrainRequest struct {
	HostID  events.HostID `json:"hostId"`
	Drained bool          `json:"drained"`
	Stop    bool          `json:"stop,omitempty"` // Stop what is there, too; with Drained only.
}

// DrainReply says what became of a DrainRequest.
type DrainReply struct {
	HostID   events.HostID `json:"hostId"`
	Drained  bool          `json:"drained"`
	Programs int           `json:"programs"` // On the host and not at rest, by the read model.
	Stopping int           `json:"stopping"` // Of those, that were told to stop.
}

// RegisterRequest makes a host known. It may be repeated.
type RegisterRequest struct {
	HostID events.HostID `json:"hostId"`
}

// RegisterReply tells an executor what it needs to know.
type RegisterReply struct {
	HostID        events.HostID `json:"hostId"`
	HostTTLMillis int64         `json:"hostTtlMillis"` // A host that says nothing for so long is lost.
	Version       string        `json:"version"`       // Of the supervisor.
}
