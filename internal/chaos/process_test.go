package chaos

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

func TestProcessThatEndsByItselfSaysWhy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	died := make(chan error, 1)
	p := &Process{
		Name: "nats-1", Path: "/bin/sh", Args: []string{"-c", "echo the port is taken; exit 3"},
		Log: filepath.Join(t.TempDir(), "nats-1.log"), Died: func(err error) { died <- err },
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-died:
		if got := err.Error(); !strings.Contains(got, "nats-1 ended by itself: exit status 3") || !strings.HasSuffix(got, "the port is taken\n") {
			t.Errorf("it says %q", got)
		}
	case <-ctx.Done():
		t.Fatal("nobody is told that it ended")
	}
}
