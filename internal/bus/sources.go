package bus

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// metaDigest is the metadata key under which a source keeps the digest that its uploader named.
const metaDigest = "sha256"

// HasSource reports whether the source tarball of a digest is there.
func (b *Bus) HasSource(ctx context.Context, user events.UserID, digest events.SourceDigest) (bool, error) {
	build, err := events.NewBuildID(digest)
	if err != nil {
		return false, err
	}
	store, err := b.js.ObjectStore(ctx, events.BucketSources)
	if err != nil {
		return false, fmt.Errorf("look up source %s: %w", build, err)
	}
	info, err := store.GetInfo(ctx, events.SourceKey(user, build))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up source %s: %w", build, err)
	}
	return info.Metadata[metaDigest] == string(digest), nil
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
	object, err := store.Get(ctx, events.SourceKey(user, build))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, fmt.Errorf("open source %s of user %s: %w", build, user, events.ErrNoSource)
	}
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", build, err)
	}
	return object, nil
}
