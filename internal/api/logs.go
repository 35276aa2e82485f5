package api

import (
	"context"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
)

// maxScan bounds the chunks that one request looks at: those of other streams lie between those that it returns.
const maxScan = 4096

// logs returns a page of what was printed. Output is kept for some days, and longer than containers are.
func (s *Server) logs(ctx context.Context, user events.UserID, req wire.LogsRequest) (wire.LogsReply, error) {
	page := logsPage{reply: wire.LogsReply{Chunks: []wire.Chunk{}, Next: req.After}}
	var err error
	if page.limit, err = pageLimit(req.Limit); err != nil {
		return page.reply, err
	}
	if err := ownProgram(user, req.ProgramID); err != nil {
		return page.reply, err
	}
	subject := req.Stream
	switch req.Stream {
	case events.LogStdout, events.LogStderr, events.LogBuild:
	case "":
		subject = "*"
	default:
		return page.reply, fail(wire.CodeBadRequest, "there is no log stream %.20q; there are stdout, stderr and build", req.Stream)
	}
	exists, err := s.bus.Exists(ctx, req.ProgramID)
	if err != nil {
		return page.reply, err
	}
	if !exists {
		return page.reply, noProgram(req.ProgramID)
	}
	for out, err := range s.bus.ReadOutput(ctx, req.ProgramID, subject, req.After) {
		if err != nil {
			return page.reply, err
		}
		if !page.add(out, req.Stream == "") {
			break
		}
	}
	return page.reply, nil
}

// logsPage collects the chunks of a reply.
type logsPage struct {
	limit   int
	size    int
	scanned int
	reply   wire.LogsReply
}

// add takes a chunk, and reports whether there is room for another. skipBuilds leaves out what builds printed.
func (p *logsPage) add(out bus.Output, skipBuilds bool) bool {
	const frame = 200 // JSON of a chunk around its data.
	if p.scanned == maxScan {
		p.reply.More = true
		return false
	}
	p.scanned++
	if skipBuilds && out.Stream == events.LogBuild {
		p.reply.Next = out.Seq
		return true
	}
	chunk := wire.Chunk{Seq: out.Seq, Time: out.Time, Stream: out.Stream, Data: out.Data}
	if len(chunk.Data) > wire.MaxChunkBytes {
		chunk.Data, chunk.Truncated = chunk.Data[:wire.MaxChunkBytes], true
	}
	size := p.size + frame + (len(chunk.Data)+2)/3*4
	if n := len(p.reply.Chunks); n == p.limit || n > 0 && size > wire.MaxPageBytes {
		p.reply.More = true
		return false
	}
	p.size, p.reply.Next = size, out.Seq
	p.reply.Chunks = append(p.reply.Chunks, chunk)
	return true
}
