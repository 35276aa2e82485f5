#!/usr/bin/env bash
# Runs deploy/cluster for real: programs of users on three NATS servers, three supervisors and two executors, while a server loses
# its disk, the leader of the effects is killed in a burst of starts, and two of three servers are away. In the end everything
# that was acknowledged is there, the audit is clean, and nothing is left behind.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/compose.sh

runtime=$(scripts/ensure-docker.sh --print-runtime)
need_compose
base=$(mktemp -d)
export HERSH_BASE=$base HERSH_RUNTIME=$runtime COMPOSE_PROJECT_NAME=hersh-cluster-$$
export HERSH_PORT_1=${HERSH_PORT_1:-14231} HERSH_PORT_2=${HERSH_PORT_2:-14232} HERSH_PORT_3=${HERSH_PORT_3:-14233}
export NATS_URL=nats://127.0.0.1:$HERSH_PORT_1,nats://127.0.0.1:$HERSH_PORT_2,nats://127.0.0.1:$HERSH_PORT_3
# A machine that may not raise the limit of open files runs with the one that it has.
limit=$(ulimit -Hn)
if [ "$limit" != unlimited ] && [ "$limit" -lt 65536 ]; then export HERSH_NOFILE=$limit; fi
compose+=(-f deploy/cluster/docker-compose.yml)
servers=(nats-1 nats-2 nats-3)
ids=()

clean_up() {
	trap - EXIT
	if [ -n "${failed-}" ]; then "${compose[@]}" logs --tail 40 >&2 || true; fi
	"${compose[@]}" down --volumes >/dev/null 2>&1 || true
	for id in "${ids[@]}"; do
		docker ps --all --quiet --filter "label=hersh.program=$id" | xargs -r docker rm --force >/dev/null 2>&1 || true
		docker image ls --quiet --filter "label=hersh.program=$id" | sort -u | xargs -r docker image rm --force >/dev/null 2>&1 || true
	done
	rm -rf "$base"
}
trap clean_up EXIT
trap 'failed=1' ERR

step() { printf '\n== %s\n' "$*"; }
die() { failed=1 && echo "cluster-test: $*" >&2 && exit 1; }

# until_ok SECONDS COMMAND... tries again until it succeeds.
until_ok() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || die "waited in vain for: $*"
		sleep 1
	done
}

# monitor SERVER PATH prints what a server says of itself; its port is in the compose network only.
monitor() {
	local ip
	ip=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$("${compose[@]}" ps -q "$1")")
	curl --fail --silent --max-time 5 "http://$ip:8222/$2"
}

healthy() { for server in "${servers[@]}"; do until_ok 180 monitor "$server" healthz; done; }

hosts_are_there() { [ "$(bin/hersh hosts 2>/dev/null | grep -c '^cluster-[12] ')" -eq 2 ]; }

# leader prints which server leads a stream.
leader() {
	monitor "$1" 'jsz?streams=true' | tr -d ' \n' | grep -o "\"name\":\"$2\".*" | grep -o '"leader":"[^"]*"' | head -n 1 | cut -d '"' -f 4
}

# events prints how many events there are of all programs.
events() { bin/hersh audit -o json | tr -d ' \n' | sed 's/.*"events":\([0-9]*\).*/\1/'; }

state_of() { bin/hersh status "$1" -o json | tr -d ' \n' | grep -o '"state":"[A-Za-z]*"' | head -n 1 | cut -d '"' -f 4; }

is() { [ "$(state_of "$1")" = "$2" ]; }

step "three servers, three supervisors, two executors"
"${compose[@]}" up -d
healthy
until_ok 120 hosts_are_there
bin/hersh hosts
for user in alice bob carol alice bob carol; do
	id=$(bin/hersh deploy examples/counter --user "$user" -o json | sed -n 's/.*"programId": *"\([^"]*\)".*/\1/p')
	ids+=("$id")
done
for id in "${ids[@]:0:2}"; do bin/hersh start "$id" --wait; done

step "a server is killed and its disk is lost"
"${compose[@]}" kill nats-1
"${compose[@]}" rm -f nats-1
docker volume rm "${COMPOSE_PROJECT_NAME}_nats-1" >/dev/null
bin/hersh restart "${ids[0]}" --wait # The other two go on.
"${compose[@]}" up -d --no-deps nats-1
healthy

step "the leader of the effects is killed in a burst of starts"
lead=$(leader nats-1 HERSH_EFFECTS)
[ -n "$lead" ] || die "nobody leads HERSH_EFFECTS"
starts=()
for id in "${ids[@]:2}"; do
	bin/hersh start "$id" --wait --timeout 3m &
	starts+=($!)
done
"${compose[@]}" kill "$lead"
for start in "${starts[@]}"; do wait "$start" || die "a start did not come through"; done
"${compose[@]}" up -d --no-deps "$lead"
healthy
for id in "${ids[@]}"; do is "$id" Ready || die "$id is $(state_of "$id")"; done

step "two of three servers are away"
before=$(events)
"${compose[@]}" kill nats-2 nats-3
if bin/hersh stop "${ids[0]}" --timeout 10s; then die "one server of three took an event"; fi
"${compose[@]}" up -d --no-deps nats-2 nats-3
healthy
after=$(events)
echo "$before events before, $after after"
[ "$after" -ge "$before" ] || die "events were lost"
until_ok 60 hosts_are_there
for id in "${ids[@]:1}"; do is "$id" Ready || die "$id is $(state_of "$id"), though nothing happened to it"; done

step "the end"
for id in "${ids[@]}"; do bin/hersh stop "$id" --wait --timeout 2m; done
bin/hersh ps
bin/hersh audit
for id in "${ids[@]}"; do
	[ -z "$(docker ps --all --quiet --filter "label=hersh.program=$id")" ] || die "a container of $id is left"
	bin/hersh delete "$id"
done
[ -z "$(bin/hersh ps -o json | tr -d ' \n' | grep -o programId)" ] || die "a program is left"
