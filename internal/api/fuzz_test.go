package api

import (
	"testing"

	"github.com/rlaaudgjs5638/hersh/client/wire"
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
	})
}
