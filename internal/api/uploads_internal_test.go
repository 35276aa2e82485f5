package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

// overtaken is a bus on which something happens to an upload before one of the copies of it ends.
type overtaken struct {
	Bus
	chunks  string
	source  string // Stored; "" is none.
	copies  int
	at      int // The copy of which only the half comes.
	happens func(*overtaken)
}

func (o *overtaken) HasSource(context.Context, events.UserID, events.SourceDigest) (bool, error) {
	return o.source != "", nil
}

func (o *overtaken) SourceBytes(context.Context, events.UserID) (int64, error) { return 0, nil }

func (o *overtaken) CopyUpload(_ context.Context, w io.Writer, _ events.UserID, _ string) (int64, error) {
	o.copies++
	data := o.chunks
	if o.copies == o.at {
		data = data[:len(data)/2] // A read ends where there is nothing more, without an error.
		o.happens(o)
	}
	n, err := io.WriteString(w, data)
	return int64(n), err
}

func (o *overtaken) PutSource(_ context.Context, _ events.UserID, _ events.SourceDigest, tarball io.Reader) error {
	data, err := io.ReadAll(tarball)
	if err == nil {
		o.source = string(data)
	}
	return err
}

func (o *overtaken) DropUpload(context.Context, events.UserID, string) error {
	o.chunks = ""
	return nil
}

// A client that has waited long enough commits again, while its first request may still be under way. Neither fails for the other, and
// no piece of a source passes for the whole.
func TestCommitsOfOneUploadAtOnce(t *testing.T) {
	const tarball = "a tarball of a program"
	sum := sha256.Sum256([]byte(tarball))
	req := wire.UploadCommitRequest{Upload: strings.Repeat("0a", 16), SourceDigest: events.SourceDigest(hex.EncodeToString(sum[:]))}
	finished := func(o *overtaken) { o.source, o.chunks = tarball, "" } // By the other request.
	expired := func(o *overtaken) { o.chunks = "" }
	for _, c := range []struct {
		name    string
		at      int
		happens func(*overtaken)
		refused bool
	}{
		{"alone", 0, nil, false},
		{"the other finishes while this one is checked", 1, finished, false},
		{"the other finishes while this one is stored", 2, finished, false},
		{"the chunks expire while it is checked", 1, expired, true},
		{"the chunks expire while it is stored", 2, expired, true},
	} {
		o := &overtaken{chunks: tarball, at: c.at, happens: c.happens}
		s := &Server{bus: o, opts: Options{Quotas: Quotas{}.orDefault()}}
		_, err := s.uploadCommit(t.Context(), "alice", req)
		var f *fault
		if refused := errors.As(err, &f) && f.code == wire.CodeConflict; refused != c.refused || err != nil && !refused {
			t.Errorf("%s: %v, want it refused: %t", c.name, err, c.refused)
		}
		if want := map[bool]string{false: tarball}[c.refused]; o.source != want {
			t.Errorf("%s: the source is %q, want %q", c.name, o.source, want)
		}
		if _, err := s.uploadCommit(t.Context(), "alice", req); (err != nil) != c.refused {
			t.Errorf("%s: committed again: %v", c.name, err)
		}
	}
}

// slowStore stores nothing before the test lets it.
type slowStore struct {
	*overtaken
	goOn chan struct{}
	puts int
}

func (s *slowStore) PutSource(ctx context.Context, user events.UserID, digest events.SourceDigest, tarball io.Reader) error {
	s.puts++
	<-s.goOn
	return s.overtaken.PutSource(ctx, user, digest, tarball)
}

// What two store at once the object store keeps twice, and counts once.
func TestASourceIsStoredOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tarball = "a tarball of a program"
		sum := sha256.Sum256([]byte(tarball))
		req := wire.UploadCommitRequest{Upload: strings.Repeat("0a", 16), SourceDigest: events.SourceDigest(hex.EncodeToString(sum[:]))}
		store := &slowStore{overtaken: &overtaken{chunks: tarball}, goOn: make(chan struct{})}
		s := &Server{bus: store, opts: Options{Quotas: Quotas{}.orDefault()}}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if _, err := s.uploadCommit(t.Context(), "alice", req); err != nil {
					t.Errorf("commit: %v", err)
				}
			})
		}
		synctest.Wait()
		close(store.goOn)
		group.Wait()
		if store.puts != 1 || store.source != tarball {
			t.Errorf("stored %d times, last %q", store.puts, store.source)
		}
	})
}
