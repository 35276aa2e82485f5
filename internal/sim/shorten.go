package sim

import (
	"bytes"
	"fmt"
	"strings"
)

// Shrink looks for a shorter run with a violation, by leaving out the end of each epoch's chaos, and returns the shortest that it
// finds. The seed stays the same.
func Shrink(cfg Config, r Result) Result {
	for step := cfg.Steps / 2; step > 0; step /= 2 {
		for shorter := cfg; shorter.Steps > step; cfg = shorter {
			shorter.Steps -= step
			found := Run(shorter)
			if found.Violation == nil {
				break
			}
			r = found
		}
	}
	return r
}

// Shorten is the end of a trace as far as it concerns the program of the violation: its own lines, and those of no program.
func Shorten(r Result, lines int) string {
	var kept []string
	for line := range strings.SplitSeq(string(bytes.TrimSpace(r.Trace)), "\n") {
		if r.Violation == nil || concerns(line, shortProgram(r.Violation.Program)) {
			kept = append(kept, line)
		}
	}
	if left := len(kept) - lines; left > 0 {
		kept = append([]string{fmt.Sprintf("… %d lines …", left)}, kept[left:]...)
	}
	return strings.Join(kept, "\n")
}

func concerns(line, program string) bool {
	if program == "" {
		return true
	}
	for word := range strings.FieldsSeq(line) {
		other, _, _ := strings.Cut(strings.TrimSuffix(word, ":"), "/")
		if len(other) > 1 && other[0] == 'p' && other[1] >= '0' && other[1] <= '9' {
			return other == program
		}
	}
	return true
}
