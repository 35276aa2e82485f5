package natsserver

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLoggerLevels checks that what every server says after it was killed alarms nobody, and that real warnings do.
func TestLoggerLevels(t *testing.T) {
	for msg, want := range map[string]string{
		"Filestore [HERSH_EFFECTS] Stream state detected prior state, could not locate msg block 13":              "INFO",
		"Filestore [PROGRAM-x] Stream state outdated, last block has additional entries, will rebuild":            "INFO",
		"Filestore [KV_HERSH_HOSTS] TTL state is outdated; attempting to recover using linear scan (seq 1 to 22)": "INFO",
		"Filestore [PROGRAM-x] Recovering stream state from index errored: prior state file":                      "INFO",
		"Filestore [PROGRAM-x] loadBlock error: disk on fire":                                                     "WARN",
		"JetStream is short of disk": "WARN",
	} {
		var out bytes.Buffer
		l := &logger{log: slog.New(slog.NewTextHandler(&out, nil))}
		l.Warnf("%s", msg)
		if !strings.Contains(out.String(), "level="+want+" ") || !strings.Contains(out.String(), msg) {
			t.Errorf("%s: %s, want level %s", msg, out.String(), want)
		}
	}
}
