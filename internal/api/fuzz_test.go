package api

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// FuzzDecode checks that no request makes decoding panic, and that what is refused is the client's fault.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, ` {"programId":"x"} `, `{"programId":"x"}{}`, `[]`, `null`, `{"after":18446744073709551616}`,
		`{"at":{"seq":1,"time":"2026-01-01T00:00:00Z"}}`, `{"at":null}`, `{"limits":{"pids":-1}}`, "{\"a\xff\":1}",
	} {
		f.Add([]byte(seed))
	}
	check := func(t *testing.T, err error) {
		if err != nil && asFault(err).code != wire.CodeBadRequest {
			t.Errorf("%v has code %d", err, asFault(err).code)
		}
		if err != nil && len(oneLine(asFault(err).sentence)) > 600 {
			t.Errorf("a long sentence: %v", err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := decode[wire.CreateRequest](data)
		check(t, err)
		history, err := decode[wire.HistoryRequest](data)
		check(t, err)
		if err == nil {
			_, err = newHistoryPage(history)
			check(t, err)
		}
		_, err = decode[wire.LogsRequest](data)
		check(t, err)
		_, err = decode[wire.UploadChunkRequest](data)
		check(t, err)
	})
}

// nothing is a bus on which there is nothing: whoever asks it for anything else than to look panics.
type nothing struct{ Bus }

func (nothing) HasSource(context.Context, events.UserID, events.SourceDigest) (bool, error) {
	return false, nil
}
func (nothing) SourceBytes(context.Context, events.UserID) (int64, error)  { return 0, nil }
func (nothing) StagedChunks(context.Context, events.UserID) (int64, error) { return 1 << 30, nil }
func (nothing) CopyUpload(context.Context, io.Writer, events.UserID, string) (int64, error) {
	return 0, nil
}
func (nothing) Head(_ context.Context, id events.ProgramID) (events.Head, error) {
	return events.Head{}, events.ErrNoProgram
}
func (nothing) Reconcile(_ context.Context, id events.ProgramID, _ uint64) (reducer.Checkpoint, error) {
	if _, err := events.ParseProgramID(string(id)); err != nil {
		panic("asked for what is no program: " + string(id))
	}
	return reducer.NewCheckpoint(id), nil
}

// FuzzRequest sends a request to each endpoint of users and of hosts, on any subject that the server would pass on. Where there is nothing,
// nothing is stored: an answer is an error of the client's, or the name of an upload.
func FuzzRequest(f *testing.F) {
	digest := strings.Repeat("0123456789abcdef", 4)
	id := "alice-build-0123456789ab-00000000-0000-4000-8000-000000000000"
	for subject, body := range map[string]string{
		"hersh.api.alice.create":                                  `{"programId":"` + id + `","sourceDigest":"` + digest + `","limits":{"pids":64}}`,
		"hersh.api.bob.get":                                       `{"programId":"` + id + `"}`,
		"hersh.api.alice.delete":                                  `{"programId":"` + id + `"}`,
		"hersh.api.alice.upload-begin":                            `{"sourceDigest":"` + digest + `","bytes":1}`,
		"hersh.api.alice.upload-chunk":                            `{"upload":"` + digest[:32] + `","offset":131072,"data":"eA=="}`,
		"hersh.api.alice.upload-commit":                           `{"upload":"` + digest[:32] + `","sourceDigest":"` + digest + `"}`,
		"hersh.results.h1.events.alice." + id + ".RuntimeStarted": `{"hostId":"h2","attempt":1,"containerId":"c"}`,
		"hersh.hosts.register.h1":                                 `{"hostId":"h2"}`,
		"hersh.api..get":                                          ``,
	} {
		f.Add(subject, []byte(body))
	}
	s := &Server{bus: nothing{}, reconciler: nothing{}, log: slog.New(slog.DiscardHandler), opts: Options{Quotas: Quotas{}.orDefault()}}
	endpoints := map[string]endpoint{}
	for _, e := range s.endpoints() {
		endpoints[e.name] = e
	}
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		for _, name := range []string{
			wire.VerbCreate, wire.VerbGet, wire.VerbDelete, wire.VerbUploadBegin, wire.VerbUploadChunk, wire.VerbUploadCommit,
		} {
			_, err := endpoints[name].handle(t.Context(), job{subject: subject, data: data})
			if err == nil && name != wire.VerbUploadBegin {
				t.Errorf("%s on %q: %q was done, where there is nothing", name, subject, data)
			}
			if err != nil && asFault(err).code == wire.CodeInternal {
				t.Errorf("%s on %q: %q is the service's fault: %v", name, subject, data, err)
			}
		}
	})
}
