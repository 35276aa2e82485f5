#!/usr/bin/env bash
# Runs docker-compose.dev.yml for real: two users' programs on two supervisors and two executors, an audit, and nothing left
# behind.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/compose.sh

runtime=$(scripts/ensure-docker.sh --print-runtime)
need_compose

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
