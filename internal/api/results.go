package api

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

// resultEndpoint stores the results of hosts, where these have accounts of their own: what a host publishes as an event arrives here,
// on a subject with the name of the host in it, which no other host reaches. The server itself cannot look into an event, and a stream
// does not keep who published it, so it is here that a host can speak only for itself. The answer is that of the stream.
func (s *Server) resultEndpoint() endpoint {
	return endpoint{name: "host-result", subject: events.ResultSubject("*", "*", "*", "*"), raw: s.storeResult}
}

// requestInfoHeader is where the server says which way a request came across accounts.
const requestInfoHeader = "Nats-Request-Info"

// storeResult stores a result of a host. Its key gets the name of the host, so that no host can use up the key of another's result.
func (s *Server) storeResult(ctx context.Context, j job) (any, error) {
	host, id, typ, err := events.ParseResultSubject(j.subject)
	if err != nil {
		return nil, fail(wire.CodeBadRequest, "the subject is not that of a result: %s", err)
	}
	if relayed(j.header[requestInfoHeader]) {
		return nil, fail(wire.CodeBadRequest, "a result must be published, and not be the answer to a request")
	}
	ev, err := events.Decode(id, typ, j.data)
	if err != nil {
		return nil, fail(wire.CodeBadRequest, "%s", err)
	}
	if origin, isResult := events.OriginOf(ev); !isResult || origin.HostID != host {
		return nil, fail(wire.CodeBadRequest, "host %s may only publish its own results", host)
	}
	key := j.header.Get(jetstream.MsgIDHeader)
	switch {
	case key == "":
	case !strings.HasPrefix(key, string(id)+"/"), len(key) > maxResultKey:
		return nil, fail(wire.CodeBadRequest, "the key of a result begins with its program")
	default:
		key += "@" + string(host)
	}
	seq, err := s.bus.Append(ctx, id, ev, key)
	if errors.Is(err, events.ErrNoProgram) {
		return pubAck{Error: &pubError{Code: 404, ErrCode: jetstream.JSErrCodeStreamNotFound, Description: "stream not found"}}, nil
	}
	if errors.Is(err, events.ErrLogFull) {
		return pubAck{Error: &pubError{Code: 503, ErrCode: events.LogFullCode, Description: events.LogFullText}}, nil
	}
	if err != nil {
		return nil, err
	}
	return pubAck{Stream: events.ProgramStream(id), Seq: seq}, nil
}

const maxResultKey = 512

// relayed reports whether a message crossed more than one account: it is an answer that somebody asked to be sent here.
func relayed(info []string) bool {
	for _, text := range info {
		var way struct {
			Service string `json:"svc"`
		}
		if json.Unmarshal([]byte(text), &way) == nil && way.Service != "" {
			return true
		}
	}
	return false
}

// pubAck is what a stream answers to a publication.
type pubAck struct {
	Stream string    `json:"stream,omitempty"`
	Seq    uint64    `json:"seq,omitempty"`
	Error  *pubError `json:"error,omitempty"`
}

type pubError struct {
	Code        int                 `json:"code"`
	ErrCode     jetstream.ErrorCode `json:"err_code"`
	Description string              `json:"description"`
}
