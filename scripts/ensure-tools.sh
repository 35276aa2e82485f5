#!/usr/bin/env bash
# Makes sure that there is a C compiler, which Go's race detector needs. Installs Debian's where it may.
set -euo pipefail

if command -v "${CC:-gcc}" >/dev/null; then
	exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q >/dev/null
	apt-get install -q -y --no-install-recommends gcc libc6-dev >/dev/null
	echo "installed gcc and libc6-dev, which go test -race needs"
	exit 0
fi
echo "go test -race needs a C compiler. On Debian: apt-get install gcc libc6-dev" >&2
exit 1
