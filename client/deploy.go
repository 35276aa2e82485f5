package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/source"
)

// DeployOptions say how to deploy.
type DeployOptions struct {
	Start  bool          // Publish UserStartRequested at the end.
	Limits events.Limits // What the program may use; zero fields are the host's defaults.
	// Progress is called, now and then and at the end, with how many bytes of the source were uploaded, and of how many. It is not
	// called for a source that is there already.
	Progress func(sent, total int64)
}

// Deploy packs a folder with a Dockerfile, uploads it unless that very source is there already, and creates a program of it. Each
// call creates another program. Where only the start fails, the program is there and its ID is returned with the error.
func (c *Client) Deploy(ctx context.Context, dir string, user events.UserID, opts DeployOptions) (events.ProgramID, error) {
	if _, err := events.ParseUserID(string(user)); err != nil {
		return "", fmt.Errorf("deploy %s: %w", dir, err)
	}
	if err := opts.Limits.Validate(); err != nil {
		return "", fmt.Errorf("deploy %s: %w", dir, err)
	}
	tarball, err := packToTemp(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("deploy %s: %w", dir, err)
	}
	defer tarball.remove()
	if err := c.upload(ctx, user, tarball, opts.Progress); err != nil {
		return "", fmt.Errorf("deploy %s: %w", dir, err)
	}
	id, err := c.create(ctx, user, tarball.digest, opts.Limits)
	if err != nil {
		return "", fmt.Errorf("deploy %s: %w", dir, err)
	}
	if opts.Start {
		if _, err := c.Start(ctx, id); err != nil {
			return id, err
		}
	}
	return id, nil
}

// create makes the ID itself, so that a request that is repeated creates one program.
func (c *Client) create(ctx context.Context, user events.UserID, digest events.SourceDigest, limits events.Limits) (events.ProgramID, error) {
	build, err := events.NewBuildID(digest)
	if err != nil {
		return "", err
	}
	id := events.NewProgramID(user, build)
	var reply wire.CreateReply
	req := wire.CreateRequest{ProgramID: id, SourceDigest: digest, Limits: limits}
	if err := c.programRequest(ctx, id, wire.VerbCreate, req, &reply); err != nil {
		return "", fmt.Errorf("create the program: %w", err)
	}
	return id, nil
}

// upload sends the tarball to the request API in chunks, unless it is there. Every request may be repeated.
func (c *Client) upload(ctx context.Context, user events.UserID, tarball *tarball, progress func(sent, total int64)) error {
	var begun wire.UploadBeginReply
	begin := wire.UploadBeginRequest{SourceDigest: tarball.digest, Bytes: tarball.size}
	if err := c.request(ctx, events.APISubject(user, wire.VerbUploadBegin), begin, &begun); err != nil || begun.Exists {
		return err
	}
	if begun.ChunkBytes <= 0 || begun.ChunkBytes > wire.UploadChunkBytes {
		return fmt.Errorf("the service wants chunks of %d bytes", begun.ChunkBytes)
	}
	chunk := make([]byte, begun.ChunkBytes)
	for offset := int64(0); offset < tarball.size; {
		n, err := tarball.file.ReadAt(chunk, offset)
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			return fmt.Errorf("read the packed source: %w", err)
		}
		var reply wire.UploadChunkReply
		req := wire.UploadChunkRequest{Upload: begun.Upload, Offset: offset, Data: chunk[:n]}
		if err := c.request(ctx, events.APISubject(user, wire.VerbUploadChunk), req, &reply); err != nil {
			return fmt.Errorf("upload the source: %w", err)
		}
		offset += int64(n)
		if progress != nil {
			progress(offset, tarball.size)
		}
	}
	var done wire.UploadCommitReply
	commit := wire.UploadCommitRequest{Upload: begun.Upload, SourceDigest: tarball.digest}
	if err := c.request(ctx, events.APISubject(user, wire.VerbUploadCommit), commit, &done); err != nil {
		return fmt.Errorf("upload the source: %w", err)
	}
	return nil
}

// tarball is a packed source folder in a file.
type tarball struct {
	file   *os.File
	digest events.SourceDigest
	size   int64
}

// packToTemp packs a folder to a temporary file: its digest is known only at the end. Package source bounds its size.
func packToTemp(ctx context.Context, dir string) (*tarball, error) {
	file, err := os.CreateTemp("", "hersh-source-*.tar")
	if err != nil {
		return nil, err
	}
	t := &tarball{file: file}
	if t.digest, err = source.Pack(ctx, file, dir); err == nil {
		t.size, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		t.remove()
		return nil, err
	}
	return t, nil
}

func (t *tarball) remove() {
	_ = t.file.Close() // It was only read since; and it goes.
	_ = os.Remove(t.file.Name())
}
