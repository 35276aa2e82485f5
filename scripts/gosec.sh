#!/usr/bin/env bash
# Looks for what gosec knows of insecure code, in all that is no test. A finding that is none is explained where it stands, behind
# "#nosec RULE --". It is run by its version and is no tool of go.mod, into which it would bring hundreds of modules.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v2.30.0

# What is excluded here is nothing that a service runs:
# - The hostile program of internal/attack does on purpose what gosec looks for, inside the sandbox: its folder is left out.
# - Simulation and chaos draw from seeds, so that a run can be had again (G404), and count in small numbers (G115).
# - What chaos and the helpers of Docker tests start, write and read is their own, in folders of one run (G204, G3.., G703).
# - daemonjson edits the one file that root names on its command line.
rules='internal/sim/:G115,G404'
rules+=';internal/chaos/:G115,G204,G301,G302,G304,G306,G404'
rules+=';internal/(dockertest|natstest)/:G204,G301,G304,G306,G703'
rules+=';scripts/internal/daemonjson/:G301,G304,G703'

exec "${GO:-go}" run "github.com/securego/gosec/v2/cmd/gosec@$version" -quiet -exclude-dir internal/attack/testdata \
	-nosec-require-rules -nosec-require-justification -exclude-rules "$rules" ./...
