package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/api"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
)

// holdings is all that a user has, by what it is called.
func (b *bench) holdings(user events.UserID) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	for cp, err := range b.Bus.Checkpoints(b.ctx, user) {
		b.must(err)
		for stored, err := range b.Bus.Read(b.ctx, cp.State.ID, 0) {
			b.must(err)
			out[fmt.Sprintf("event %d of %s", stored.Seq, cp.State.ID)] = string(stored.Type)
		}
	}
	bytes, err := b.Bus.SourceBytes(b.ctx, user)
	b.must(err)
	chunks, err := b.Bus.StagedChunks(b.ctx, user)
	b.must(err)
	out["sources"], out["chunks"] = fmt.Sprint(bytes), fmt.Sprint(chunks)
	return out
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// refused checks that a request is answered with a code and a sentence, and that the user has what they had.
func (b *bench) refused(verb, body string, code int, words string) {
	b.t.Helper()
	before := b.holdings("alice")
	got, sentence := b.ask(events.APISubject("alice", verb), body, nil)
	if got != code || !strings.Contains(sentence, words) {
		b.t.Errorf("%s %.200s: %d %q, want %d with %q", verb, body, got, sentence, code, words)
	}
	if after := b.holdings("alice"); !maps.Equal(before, after) {
		b.t.Errorf("%s %.200s changed something: %v, was %v", verb, body, after, before)
	}
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func asBody(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // Of the types of package wire it never fails.
	}
	return string(data)
}

// begin begins an upload of alice's and returns its name.
func (b *bench) begin(data []byte) string {
	b.t.Helper()
	var begun wire.UploadBeginReply
	b.mustAsk(events.APISubject("alice", wire.VerbUploadBegin), asBody(wire.UploadBeginRequest{SourceDigest: events.SourceDigest(digestOf(data)), Bytes: int64(len(data))}), &begun)
	return begun.Upload
}

func (b *bench) chunk(upload string, offset int64, data []byte) {
	b.t.Helper()
	b.mustAsk(events.APISubject("alice", wire.VerbUploadChunk), asBody(wire.UploadChunkRequest{Upload: upload, Offset: offset, Data: data}), nil)
}

func TestQuotaOfPrograms(t *testing.T) {
	b := newBenchWith(t, supervisord.Options{Quotas: api.Quotas{Programs: 2}})
	first := b.create("alice")
	b.create("alice")
	creation := fmt.Sprintf(`{"sourceDigest":%q}`, digest)
	b.refused(wire.VerbCreate, creation, wire.CodeQuota, "user alice has 2 programs, and may have 2; delete one first")
	b.create("bob") // Another's are not counted.
	b.mustAsk(events.APISubject("alice", wire.VerbDelete), fmt.Sprintf(`{"programId":%q}`, first), nil)
	b.mustAsk(events.APISubject("alice", wire.VerbCreate), creation, nil)
}

func TestQuotaOfSources(t *testing.T) {
	const chunk = wire.UploadChunkBytes
	b := newBenchWith(t, supervisord.Options{Quotas: api.Quotas{SourceBytes: 2 * chunk, SourcesBytes: 3 * chunk}})
	begin := func(n int64) string {
		return asBody(wire.UploadBeginRequest{SourceDigest: digest, Bytes: n})
	}
	b.refused(wire.VerbUploadBegin, begin(2*chunk+1), wire.CodeQuota, fmt.Sprintf("the source has %d bytes, and a source may have %d; leave files out with .dockerignore", 2*chunk+1, 2*chunk))
	b.refused(wire.VerbUploadBegin, begin(-1), wire.CodeBadRequest, "at least one byte")

	// What was promised at the beginning is not believed: each chunk is looked at, and so is the whole.
	data := bytes.Repeat([]byte("x"), 2*chunk)
	upload := b.begin(data)
	b.chunk(upload, 0, data[:chunk])
	b.chunk(upload, chunk, data[chunk:])
	over := asBody(wire.UploadChunkRequest{Upload: upload, Offset: 2 * chunk, Data: []byte("x")})
	b.refused(wire.VerbUploadChunk, over, wire.CodeQuota, fmt.Sprintf("the source has more bytes than the %d that a source may have", 2*chunk))
	b.mustAsk(events.APISubject("alice", wire.VerbUploadCommit), asBody(wire.UploadCommitRequest{Upload: upload, SourceDigest: events.SourceDigest(digestOf(data))}), nil)

	b.refused(wire.VerbUploadBegin, begin(chunk+1), wire.CodeQuota, fmt.Sprintf("more than the %d that they may have", 3*chunk))
	// Begun as a small one, and more was sent.
	more := bytes.Repeat([]byte("y"), chunk+1)
	upload = b.begin([]byte("small"))
	b.chunk(upload, 0, more[:chunk])
	b.chunk(upload, chunk, more[chunk:])
	commit := asBody(wire.UploadCommitRequest{Upload: upload, SourceDigest: events.SourceDigest(digestOf(more))})
	b.refused(wire.VerbUploadCommit, commit, wire.CodeQuota, "more than the")
	// Uploads that are never complete.
	upload = b.begin([]byte("small"))
	b.chunk(upload, 0, more[:chunk])
	b.refused(wire.VerbUploadChunk, asBody(wire.UploadChunkRequest{Upload: upload, Offset: chunk, Data: []byte("x")}), wire.CodeQuota, fmt.Sprintf("more than the %d bytes that they may have", 3*chunk))
}

func TestUploadsThatAreWrong(t *testing.T) {
	const chunk = wire.UploadChunkBytes
	b := newBench(t)
	data := bytes.Repeat([]byte("z"), chunk+10)
	upload := b.begin(data)
	b.chunk(upload, 0, data[:chunk])
	none := strings.Repeat("0", 32)
	commit := func(name, digest string) string {
		return asBody(wire.UploadCommitRequest{Upload: name, SourceDigest: events.SourceDigest(digest)})
	}
	send := func(name string, offset int64, data []byte) string {
		return asBody(wire.UploadChunkRequest{Upload: name, Offset: offset, Data: data})
	}
	for _, tc := range []struct {
		name, verb, body string
		code             int
		words            string
	}{
		{"a missing chunk at the end", wire.VerbUploadCommit, commit(upload, digestOf(data)), wire.CodeConflict, "does not have the digest"},
		{"a wrong digest", wire.VerbUploadCommit, commit(upload, none+none), wire.CodeConflict, "does not have the digest"},
		{"no digest", wire.VerbUploadCommit, commit(upload, "x"), wire.CodeBadRequest, ""},
		{"an upload that is not there", wire.VerbUploadCommit, commit(none, digestOf(data)), wire.CodeConflict, "does not have the digest"},
		{"no upload", wire.VerbUploadCommit, commit("", digestOf(data)), wire.CodeBadRequest, "is not the name of an upload"},
		{"an upload with a wildcard", wire.VerbUploadChunk, send("*", 0, []byte("x")), wire.CodeBadRequest, "is not the name of an upload"},
		{"an upload of another's subject", wire.VerbUploadChunk, send("../bob", 0, []byte("x")), wire.CodeBadRequest, "is not the name of an upload"},
		{"an empty chunk", wire.VerbUploadChunk, send(upload, chunk, nil), wire.CodeBadRequest, "a chunk has 1 to"},
		{"an over-size chunk", wire.VerbUploadChunk, send(upload, chunk, make([]byte, chunk+1)), wire.CodeBadRequest, "a chunk has 1 to"},
		{"a chunk at an odd place", wire.VerbUploadChunk, send(upload, chunk+1, []byte("x")), wire.CodeBadRequest, "begins at a multiple"},
		{"a chunk before the beginning", wire.VerbUploadChunk, send(upload, -chunk, []byte("x")), wire.CodeBadRequest, "begins at a multiple"},
		{"a chunk at the end of the world", wire.VerbUploadChunk, send(upload, (1<<63-1)/chunk*chunk, []byte("x")), wire.CodeQuota, "that a source may have"},
		{"an over-size request", wire.VerbUploadChunk, `{"data":"` + base64.StdEncoding.EncodeToString(make([]byte, 150<<10)) + `"}`, wire.CodeBadRequest, "the request has"},
		{"less of a processor than Docker takes", wire.VerbCreate, fmt.Sprintf(`{"sourceDigest":%q,"limits":{"cpuMillis":9}}`, digest), wire.CodeBadRequest, "the limit cpuMillis is 9, less than 10, which is the least that Docker takes"},
		{"less memory than Docker takes", wire.VerbCreate, fmt.Sprintf(`{"sourceDigest":%q,"limits":{"memoryBytes":9}}`, digest), wire.CodeBadRequest, "the limit memoryBytes is 9, less than"},
		{"the least of a processor, of a source that is not there", wire.VerbCreate, fmt.Sprintf(`{"sourceDigest":%q,"limits":{"cpuMillis":10}}`, digestOf(data)), wire.CodeConflict, "upload it first"},
		{"a program of a source that is not there", wire.VerbCreate, fmt.Sprintf(`{"sourceDigest":%q}`, digestOf(data)), wire.CodeConflict, "upload it first"},
	} {
		t.Log(tc.name)
		b.refused(tc.verb, tc.body, tc.code, tc.words)
	}
	// A chunk in the middle that is missing: the next begins where none may be yet.
	gap := b.begin(append(data, data...))
	b.chunk(gap, chunk, data[:chunk])
	b.refused(wire.VerbUploadCommit, commit(gap, digestOf(data)), wire.CodeConflict, "the upload lacks a part")
	// The same upload, put right.
	b.chunk(upload, chunk, data[chunk:])
	b.mustAsk(events.APISubject("alice", wire.VerbUploadCommit), commit(upload, digestOf(data)), nil)
}

// TestQuotaOfEvents floods a program with one type; the others go on.
func TestQuotaOfEvents(t *testing.T) {
	b := newBenchWith(t, supervisord.Options{Bus: bus.Options{EventsPerType: 3}})
	id := b.create("alice")
	for range 3 {
		b.publish(id, events.TypeUserStopRequested, `{}`)
	}
	before := b.holdings("alice")
	_, err := client.New(b.nc).Stop(b.ctx, id)
	if !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), "as many events of this type as it may") {
		t.Errorf("one event too many: %v", err)
	}
	if after := b.holdings("alice"); !maps.Equal(before, after) {
		t.Errorf("it changed something: %v, was %v", after, before)
	}
	if _, err := client.New(b.nc).Start(b.ctx, id); err != nil {
		t.Errorf("an event of another type: %v", err)
	}
}

func TestQuotaOfRequests(t *testing.T) {
	b := newBenchWith(t, supervisord.Options{Quotas: api.Quotas{RequestsBurst: 5, RequestsEvery: time.Hour}})
	list := events.APISubject("alice", wire.VerbList)
	for range 5 {
		b.mustAsk(list, `{}`, nil)
	}
	b.refused(wire.VerbCreate, fmt.Sprintf(`{"sourceDigest":%q}`, digest), wire.CodeBusy, "user alice asks too much: 5 requests may come at once, and one more every 1h0m0s; try again in a moment")
	b.refused(wire.VerbList, `{}`, wire.CodeBusy, "asks too much")
	b.mustAsk(events.APISubject("bob", wire.VerbList), `{}`, nil)
	b.mustAsk(events.SubjectHostsList, `{}`, nil)
}

// TestQuotaOfOutput prints more than is kept. The newest stays, and so does what another user's program printed.
func TestQuotaOfOutput(t *testing.T) {
	const chunk, most = 8 << 10, 64 << 10
	b := newBenchWith(t, supervisord.Options{Quotas: api.Quotas{OutputBytes: most, OutputEvery: 20 * time.Millisecond}})
	one, two, bobs := b.create("alice"), b.create("alice"), b.create("bob")
	b.must(b.Bus.ShipLog(b.ctx, bobs, events.LogStdout, "", []byte("bob's")))
	for i := range 12 {
		for _, id := range []events.ProgramID{one, two} {
			text := fmt.Sprintf("%-*d", chunk, i)
			b.must(b.Bus.ShipLog(b.ctx, id, events.LogStdout, "", []byte(text)))
		}
	}
	read := func(id events.ProgramID) (total int, last string) {
		for out, err := range b.Bus.ReadOutput(b.ctx, id, events.LogStdout, 0) {
			b.must(err)
			total, last = total+len(out.Data), strings.TrimSpace(string(out.Data))
		}
		return total, last
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n1, last1 := read(one)
		n2, last2 := read(two)
		if n1+n2 <= most {
			if last1 != "11" || last2 != "11" || n1+n2 < most/2 {
				t.Errorf("kept %d and %d bytes, the last are %q and %q; want the newest, and no less than half of %d", n1, n2, last1, last2, most)
			}
			break
		}
		<-tick.C
		b.must(b.ctx.Err())
	}
	if n, last := read(bobs); n != 5 || last != "bob's" {
		t.Errorf("bob's output is %q, %d bytes", last, n)
	}
}
