package bus

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// metaDigest is the metadata key under which a source keeps the digest that its uploader named.
const metaDigest = "sha256"

// HasSource reports whether the source tarball of a digest is there, by the word of the bucket's leader: a copy may lag behind an upload.
func (b *Bus) HasSource(ctx context.Context, user events.UserID, digest events.SourceDigest) (bool, error) {
	build, err := events.NewBuildID(digest)
	if err != nil {
		return false, err
	}
	info, err := b.sourceInfo(ctx, user, build)
	return info.Metadata[metaDigest] == string(digest), err
}

// sourceInfo returns what the object store says of a source, by the word of the bucket's leader; nothing where there is none.
func (b *Bus) sourceInfo(ctx context.Context, user events.UserID, build events.BuildID) (jetstream.ObjectInfo, error) {
	// The object store encodes names like this, since they may hold anything.
	name := base64.URLEncoding.EncodeToString([]byte(events.SourceKey(user, build)))
	subject := "$O." + events.BucketSources + ".M." + name
	stored, err := b.getStored(ctx, "OBJ_"+events.BucketSources, map[string]any{"last_by_subj": subject})
	if isNotFound(err) {
		return jetstream.ObjectInfo{}, nil
	}
	var info jetstream.ObjectInfo
	if err == nil {
		err = json.Unmarshal(stored.Data, &info)
	}
	if err != nil {
		return jetstream.ObjectInfo{}, fmt.Errorf("look up source %s: %w", build, err)
	}
	if info.Deleted {
		return jetstream.ObjectInfo{}, nil
	}
	return info, nil
}

// PutSource uploads a source tarball, unless it is there already. Nothing is verified here: an executor does so before every
// build.
func (b *Bus) PutSource(ctx context.Context, user events.UserID, digest events.SourceDigest, tarball io.Reader) error {
	found, err := b.HasSource(ctx, user, digest)
	if err != nil || found {
		return err
	}
	build, err := events.NewBuildID(digest)
	if err != nil {
		return err
	}
	store, err := b.js.ObjectStore(ctx, events.BucketSources)
	if err == nil {
		_, err = store.Put(ctx, jetstream.ObjectMeta{
			Name: events.SourceKey(user, build), Metadata: map[string]string{metaDigest: string(digest)},
		}, tarball)
	}
	if err != nil {
		return fmt.Errorf("upload source %s: %w", build, err)
	}
	return nil
}

// OpenSource returns the source tarball of a build, to be closed by the caller, or events.ErrNoSource.
func (b *Bus) OpenSource(ctx context.Context, user events.UserID, build events.BuildID) (io.ReadCloser, error) {
	store, err := b.js.ObjectStore(ctx, events.BucketSources)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", build, err)
	}
	info, err := store.GetInfo(ctx, events.SourceKey(user, build))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, fmt.Errorf("open source %s of user %s: %w", build, user, events.ErrNoSource)
	}
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", build, err)
	}
	return &sourceReader{ctx: ctx, bus: b, chunks: "$O." + events.BucketSources + ".C." + info.NUID, left: info.Size}, nil
}

// sourceReader reads the chunks of a source in bounded batches, without a consumer, which not every user may make.
type sourceReader struct {
	ctx    context.Context
	bus    *Bus
	chunks string // Their subject.
	after  uint64 // Sequence of the last chunk of the batch in hand.
	batch  [][]byte
	left   uint64 // Bytes that are still to come.
}

func (r *sourceReader) Read(p []byte) (int, error) {
	for len(r.batch) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if err := r.fetch(); err != nil {
			return 0, fmt.Errorf("read source: %w", err)
		}
	}
	n := copy(p, r.batch[0])
	if uint64(n) > r.left { // #nosec G115 -- What copy returns is never negative.
		return 0, errors.New("read source: there is more of it than its uploader said")
	}
	r.left -= uint64(n) // #nosec G115 -- As above.
	if r.batch[0] = r.batch[0][n:]; len(r.batch[0]) == 0 {
		r.batch = r.batch[1:]
	}
	return n, nil
}

func (r *sourceReader) fetch() error {
	got := 0
	err := r.bus.scan(r.ctx, "OBJ_"+events.BucketSources, r.chunks, r.after, func(msg *jetstream.RawStreamMsg) bool {
		r.after = msg.Sequence
		if len(msg.Data) > 0 {
			r.batch = append(r.batch, msg.Data)
		}
		got += len(msg.Data)
		return got < readBytes
	})
	if err == nil && got == 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Close lets go of what was read ahead.
func (r *sourceReader) Close() error {
	r.batch, r.left = nil, 0
	return nil
}
