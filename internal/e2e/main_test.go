// Package e2e has the tests of the whole: real NATS, real services, and, in the files named docker_*, real Docker.
package e2e

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
