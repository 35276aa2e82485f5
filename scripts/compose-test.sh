#!/usr/bin/env bash
# Runs docker-compose.dev.yml for real: two users' programs on two supervisors and two executors, an audit, and nothing left
# behind. Takes docker-compose 1.29 or Compose v2, whichever is there, and installs Debian's where neither is.
set -euo pipefail
cd "$(dirname "$0")/.."

runtime=$(scripts/ensure-docker.sh --print-runtime)
if docker compose version >/dev/null 2>&1; then
	compose=(docker compose)
elif command -v docker-compose >/dev/null; then
	compose=(docker-compose)
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker-compose >/dev/null
	compose=(docker-compose)
else
	echo "Neither docker-compose nor Compose v2 is here. On Debian: apt-get install docker-compose" >&2
	exit 1
fi

base=$(mktemp -d)
export HERSH_BASE=$base HERSH_RUNTIME=$runtime HERSH_PORT=${HERSH_PORT:-14222} COMPOSE_PROJECT_NAME=hersh-test-$$
export NATS_URL=nats://127.0.0.1:$HERSH_PORT
compose+=(-f docker-compose.dev.yml)
ids=()

clean_up() {
	trap - EXIT
	for id in "${ids[@]}"; do
		bin/hersh stop "$id" --wait --timeout 30s >/dev/null 2>&1 || true
	done
	"${compose[@]}" down --volumes >/dev/null 2>&1 || true
	for id in "${ids[@]}"; do
		docker image ls --quiet --filter "label=hersh.program=$id" | sort -u | xargs -r docker image rm --force >/dev/null 2>&1 || true
	done
	rm -rf "$base"
}
trap clean_up EXIT

"${compose[@]}" up -d
for _ in $(seq 60); do
	[ "$(bin/hersh hosts 2>/dev/null | grep -c '^dev-[12] ')" = 2 ] && break
	sleep 1
done
bin/hersh hosts
for user in alice bob; do
	id=$(bin/hersh deploy examples/counter --user "$user" -o json | sed -n 's/.*"programId": *"\([^"]*\)".*/\1/p')
	ids+=("$id")
	bin/hersh start "$id" --wait
done
bin/hersh ps
for id in "${ids[@]}"; do
	bin/hersh restart "$id" --wait
	bin/hersh stop "$id" --wait
done
bin/hersh audit
