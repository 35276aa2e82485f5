// Package e2e has the tests of the whole: real NATS, real services, and, in the files named docker_*, real Docker.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// commands are the binaries of the tests.
var commands = &built{ok: map[string]string{}}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hersh-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	commands.dir = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}
