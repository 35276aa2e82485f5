package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"regexp"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
)

// An upload is begun, sent in chunks, and committed. Any instance serves any of these requests: what was sent is kept on the bus, under the
// name of the user, for an hour. A source is written into the store only after its digest was found right.

// uploadBegin says whether a source is needed, and under which name its chunks are to be sent.
func (s *Server) uploadBegin(ctx context.Context, user events.UserID, req wire.UploadBeginRequest) (wire.UploadBeginReply, error) {
	reply := wire.UploadBeginReply{ChunkBytes: wire.UploadChunkBytes}
	if _, err := events.NewBuildID(req.SourceDigest); err != nil {
		return reply, fail(wire.CodeBadRequest, "%s", err)
	}
	if req.Bytes <= 0 {
		return reply, fail(wire.CodeBadRequest, "a source has at least one byte")
	}
	var err error
	if reply.Exists, err = s.bus.HasSource(ctx, user, req.SourceDigest); err != nil || reply.Exists {
		return reply, err
	}
	if err := s.roomForSource(ctx, user, req.Bytes); err != nil {
		return reply, err
	}
	random := make([]byte, 16)
	_, _ = rand.Read(random) // Never fails.
	reply.Upload = hex.EncodeToString(random)
	return reply, nil
}

func (s *Server) uploadChunk(ctx context.Context, user events.UserID, req wire.UploadChunkRequest) (wire.UploadChunkReply, error) {
	if err := checkUpload(req.Upload); err != nil {
		return wire.UploadChunkReply{}, err
	}
	end := req.Offset + int64(len(req.Data))
	switch {
	case len(req.Data) == 0 || len(req.Data) > wire.UploadChunkBytes:
		return wire.UploadChunkReply{}, fail(wire.CodeBadRequest, "a chunk has 1 to %d bytes", wire.UploadChunkBytes)
	case req.Offset < 0 || req.Offset%wire.UploadChunkBytes != 0:
		return wire.UploadChunkReply{}, fail(wire.CodeBadRequest, "a chunk begins at a multiple of %d", wire.UploadChunkBytes)
	case end > s.opts.Quotas.SourceBytes || end < 0:
		return wire.UploadChunkReply{}, fail(wire.CodeQuota, "the source has more bytes than the %d that a source may have; leave files out with .dockerignore", s.opts.Quotas.SourceBytes)
	}
	chunks, err := s.bus.StagedChunks(ctx, user)
	if err != nil {
		return wire.UploadChunkReply{}, err
	}
	if (chunks+1)*wire.UploadChunkBytes > s.opts.Quotas.SourcesBytes {
		return wire.UploadChunkReply{}, fail(wire.CodeQuota, "uploads of user %s that are not complete would have more than the %d bytes that they may have; complete one, or wait: they are forgotten after an hour",
			user, s.opts.Quotas.SourcesBytes)
	}
	return wire.UploadChunkReply{Next: end}, s.bus.StageChunk(ctx, user, req.Upload, req.Offset, req.Data)
}

// uploadCommit verifies an upload and makes it a source. Doing it again changes nothing, also while the first time is still under way:
// it waits for that, or, where another server was faster and took the chunks away, finds the source there. Of two that store the same at
// once the object store would keep the chunks of both, and count one.
func (s *Server) uploadCommit(ctx context.Context, user events.UserID, req wire.UploadCommitRequest) (wire.UploadCommitReply, error) {
	if err := checkUpload(req.Upload); err != nil {
		return wire.UploadCommitReply{}, err
	}
	build, err := events.NewBuildID(req.SourceDigest)
	if err != nil {
		return wire.UploadCommitReply{}, fail(wire.CodeBadRequest, "%s", err)
	}
	reply := wire.UploadCommitReply{BuildID: build}
	unlock, err := s.commits.Lock(ctx, events.SourceKey(user, build))
	if err != nil {
		return reply, err
	}
	defer unlock()
	if found, err := s.bus.HasSource(ctx, user, req.SourceDigest); err != nil || found {
		return reply, err
	}
	if err := s.commit(ctx, user, req); err != nil {
		if found, lookupErr := s.bus.HasSource(ctx, user, req.SourceDigest); lookupErr != nil || !found {
			return reply, err
		}
	}
	return reply, s.bus.DropUpload(ctx, user, req.Upload)
}

// commit checks an upload before it is stored, so that what is wrong takes no room among the sources.
func (s *Server) commit(ctx context.Context, user events.UserID, req wire.UploadCommitRequest) error {
	size, err := s.copyUpload(ctx, io.Discard, user, req)
	if err != nil {
		return err
	}
	if err := s.roomForSource(ctx, user, size); err != nil {
		return err
	}
	return s.storeUpload(ctx, user, req)
}

// copyUpload writes an upload, and returns its length. Where it does not have the digest that it should have, that is an error at its end.
func (s *Server) copyUpload(ctx context.Context, w io.Writer, user events.UserID, req wire.UploadCommitRequest) (int64, error) {
	hash := sha256.New()
	size, err := s.bus.CopyUpload(ctx, io.MultiWriter(hash, w), user, req.Upload)
	switch {
	case errors.Is(err, bus.ErrIncomplete):
		return size, fail(wire.CodeConflict, "the upload lacks a part; send it again from the start")
	case err == nil && hex.EncodeToString(hash.Sum(nil)) != string(req.SourceDigest):
		return size, fail(wire.CodeConflict, "what was uploaded, %d bytes, does not have the digest %s", size, req.SourceDigest)
	}
	return size, err
}

// storeUpload stores an upload, and not the beginning of one whose chunks are taken away meanwhile.
func (s *Server) storeUpload(ctx context.Context, user events.UserID, req wire.UploadCommitRequest) error {
	read, write := io.Pipe()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, err := s.copyUpload(ctx, write, user, req)
		_ = write.CloseWithError(err) // Of a pipe it never fails.
	}()
	err := s.bus.PutSource(ctx, user, req.SourceDigest, read)
	_ = read.Close() // Ends the copying where the store has given up.
	<-copied
	return err
}

func checkUpload(upload string) error {
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(upload) {
		return fail(wire.CodeBadRequest, "%.40q is not the name of an upload", upload)
	}
	return nil
}
