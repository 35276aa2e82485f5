package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/internal/sim"
)

// A violation is told with its seed and its trace, and is exit code 1. The mistake is planted: work is acknowledged before it is done.
func TestSimTellsAViolation(t *testing.T) {
	for seed := uint64(1); seed <= 50; seed++ {
		var out bytes.Buffer
		cfg := sim.Small(seed)
		cfg.Hooks.AckFirst = true
		err := simulate(&app{ctx: t.Context(), out: &out, errOut: &out}, cfg)
		if err == nil {
			continue
		}
		var code *exitCode
		if !errors.As(err, &code) || code.code != exitFailed {
			t.Fatalf("seed %d gives %v, want exit code %d", seed, err, exitFailed)
		}
		for _, want := range []string{fmt.Sprintf("VIOLATION of seed %d: step ", seed), "user: User", " faults, "} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("it does not say %q:\n%s", want, out.String())
			}
		}
		return
	}
	t.Error("50 seeds did not find the mistake")
}
