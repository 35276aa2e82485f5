package main

import (
	"strconv"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// programView is a program as ps, status and replay print it in JSON.
type programView struct {
	ProgramID      events.ProgramID    `json:"programId"`
	User           events.UserID       `json:"user"`
	State          reducer.State       `json:"state"`
	ErrorMsg       string              `json:"errorMsg,omitempty"`
	ExitCode       int                 `json:"exitCode,omitempty"`
	HostID         events.HostID       `json:"hostId,omitempty"`
	Attempt        uint64              `json:"attempt,omitempty"`
	RestartPending bool                `json:"restartPending,omitempty"`
	BuildID        events.BuildID      `json:"buildId"`
	SourceDigest   events.SourceDigest `json:"sourceDigest,omitempty"`
	ImageID        string              `json:"imageId,omitempty"`
	ContainerID    string              `json:"containerId,omitempty"`
	Limits         events.Limits       `json:"limits,omitzero"`
	Seq            uint64              `json:"seq"`               // Of the last event.
	Updated        time.Time           `json:"updated"`           // When the last event was stored.
	Since          time.Time           `json:"since,omitzero"`    // When it came into its state, where that is known.
	Waiting        string              `json:"waiting,omitempty"` // Why it waits for a host.
	Digest         reducer.Digest      `json:"digest,omitzero"`   // Of the log.
}

func viewOf(cp reducer.Checkpoint, since time.Time) programView {
	s := cp.State
	return programView{
		ProgramID: s.ID, User: s.ID.User(), State: s.State, ErrorMsg: s.ErrorMsg, ExitCode: s.ExitCode,
		HostID: s.HostID, Attempt: s.Attempt, RestartPending: s.RestartPending,
		BuildID: s.BuildID, SourceDigest: s.SourceDigest, ImageID: s.ImageID, ContainerID: s.ContainerID, Limits: s.Limits,
		Seq: cp.Seq, Updated: cp.Time, Since: since, Digest: cp.Digest,
	}
}

// details prints one program for people.
func (a *app) details(v programView) error {
	state := v.State.String()
	if v.RestartPending {
		state += ", to be started again"
	}
	if !v.Since.IsZero() {
		state += ", for " + age(time.Now(), v.Since)
	}
	rows := [][]string{{"program", string(v.ProgramID)}, {"state", state}}
	add := func(name, value string) {
		if value != "" && value != "0" {
			rows = append(rows, []string{name, value})
		}
	}
	add("waiting", v.Waiting)
	add("error", v.ErrorMsg)
	add("exit code", strconv.Itoa(v.ExitCode))
	add("host", string(v.HostID))
	add("attempt", strconv.FormatUint(v.Attempt, 10))
	add("build", string(v.BuildID))
	add("image", v.ImageID)
	add("container", v.ContainerID)
	add("memory", strconv.FormatInt(v.Limits.MemoryBytes, 10))
	add("CPU millis", strconv.FormatInt(v.Limits.CPUMillis, 10))
	add("processes", strconv.FormatInt(v.Limits.Pids, 10))
	add("last event", strconv.FormatUint(v.Seq, 10)+", "+stamp(v.Updated))
	return a.table(rows)
}
