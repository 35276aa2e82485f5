package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

// endpoint is one kind of request.
type endpoint struct {
	name    string
	subject string
	serve   func(ctx context.Context, subject string, data []byte) (any, error)
	raw     func(ctx context.Context, j job) (any, error) // Instead of serve, where the headers matter.
}

func (e endpoint) handle(ctx context.Context, j job) (any, error) {
	if e.raw != nil {
		return e.raw(ctx, j)
	}
	return e.serve(ctx, j.subject, j.data)
}

func (s *Server) endpoints() []endpoint {
	return []endpoint{
		userEndpoint(wire.VerbCreate, s.create),
		userEndpoint(wire.VerbList, s.list),
		userEndpoint(wire.VerbGet, s.get),
		userEndpoint(wire.VerbHistory, s.history),
		userEndpoint(wire.VerbLogs, s.logs),
		userEndpoint(wire.VerbDelete, s.delete),
		userEndpoint(wire.VerbUploadBegin, s.uploadBegin),
		userEndpoint(wire.VerbUploadChunk, s.uploadChunk),
		userEndpoint(wire.VerbUploadCommit, s.uploadCommit),
		plainEndpoint("programs-list", events.SubjectProgramsList, s.listAll),
		plainEndpoint("hosts-list", events.SubjectHostsList, s.listHosts),
		plainEndpoint("hosts-drain", events.SubjectHostsDrain, s.drainHost),
		plainEndpoint("hosts-register", events.SubjectHostsRegister, s.registerHost),
		s.hostEndpoint(),
		s.resultEndpoint(),
	}
}

// userEndpoint serves a verb of every user; the subject says which user asks.
func userEndpoint[Req, Rep any](verb string, handle func(context.Context, events.UserID, Req) (Rep, error)) endpoint {
	return endpoint{name: verb, subject: events.APISubject("*", verb), serve: func(ctx context.Context, subject string, data []byte) (any, error) {
		user, _, err := events.ParseAPISubject(subject)
		if err != nil {
			return nil, fail(wire.CodeBadRequest, "the subject does not name a user: %s", err)
		}
		req, err := decode[Req](data)
		if err != nil {
			return nil, err
		}
		return handle(ctx, user, req)
	}}
}

// plainEndpoint serves what is not asked in the name of a user.
func plainEndpoint[Req, Rep any](name, subject string, handle func(context.Context, Req) (Rep, error)) endpoint {
	return endpoint{name: name, subject: subject, serve: func(ctx context.Context, _ string, data []byte) (any, error) {
		req, err := decode[Req](data)
		if err != nil {
			return nil, err
		}
		return handle(ctx, req)
	}}
}

// decode reads a request strictly: one object of known fields, nothing after it. An empty request is an empty object.
func decode[Req any](data []byte) (Req, error) {
	var req Req
	most := wire.MaxRequestBytes
	if _, isChunk := any(req).(wire.UploadChunkRequest); isChunk {
		most = wire.MaxChunkRequestBytes
	}
	if len(data) > most {
		return req, fail(wire.CodeBadRequest, "the request has %d bytes, more than %d", len(data), most)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return req, nil
	}
	if data[0] != '{' {
		return req, fail(wire.CodeBadRequest, "the request is not a JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, fail(wire.CodeBadRequest, "the request cannot be understood: %s", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return req, fail(wire.CodeBadRequest, "something follows the JSON object of the request")
	}
	return req, nil
}

// ownProgram checks that a program ID is one, and one of the user's.
func ownProgram(user events.UserID, id events.ProgramID) error {
	if _, err := events.ParseProgramID(string(id)); err != nil {
		return fail(wire.CodeBadRequest, "%s", err)
	}
	if id.User() != user {
		return noProgram(id)
	}
	return nil
}

func noProgram(id events.ProgramID) error {
	return fail(wire.CodeNotFound, "there is no program %s", id)
}

// pageLimit returns how many items a page may have.
func pageLimit(asked int) (int, error) {
	if asked < 0 {
		return 0, fail(wire.CodeBadRequest, "limit %d is negative", asked)
	}
	if asked == 0 || asked > wire.MaxPageItems {
		return wire.MaxPageItems, nil
	}
	return asked, nil
}
