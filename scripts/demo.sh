#!/usr/bin/env bash
# Shows a program's whole life on this machine: built, started under gVisor, restarted, crashed, retried, stopped, and replayed
# from its log. Everything is kept in a temporary folder, which is removed at the end with the program's image.
set -euo pipefail
cd "$(dirname "$0")/.."

runtime=$(scripts/ensure-docker.sh --print-runtime)
if [ "$runtime" = runc ]; then
	echo "Weaker here: without gVisor a program shares this machine's kernel, and a hole in the kernel is a hole in the sandbox."
fi

dir=$(mktemp -d)
server=

clean_up() {
	trap - EXIT INT TERM
	id=$(grep -s '^alice-' "$dir/deployed" || true)
	if [ -n "$id" ]; then
		bin/hersh stop "$id" --wait --timeout 30s >/dev/null 2>&1 || true
	fi
	if [ -n "$server" ]; then
		kill -TERM "$server" 2>/dev/null || true
		wait "$server" 2>/dev/null || true
	fi
	if [ -n "$id" ]; then
		docker image ls --quiet --filter "label=hersh.program=$id" | sort -u | xargs -r docker image rm --force >/dev/null 2>&1 || true
	fi
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# say explains, show runs a command as if it were typed.
say() { printf '\n# %s\n' "$*"; }
show() {
	printf '$ %s\n' "${*/#bin\//}"
	"$@"
}

say "NATS, a supervisor and an executor, in one process. Any NATS client can join it."
printf '$ hersh dev --runtime %s\n' "$runtime"
bin/hersh dev --dir "$dir" --listen 127.0.0.1:0 --runtime "$runtime" -o json >"$dir/dev.json" 2>"$dir/dev.log" &
server=$!
for _ in $(seq 300); do
	NATS_URL=$(sed -n 's/.*"server": *"\([^"]*\)".*/\1/p' "$dir/dev.json")
	[ -z "$NATS_URL" ] || break
	if ! kill -0 "$server" 2>/dev/null; then
		cat "$dir/dev.log" >&2
		exit 1
	fi
	sleep 0.1
done
[ -n "$NATS_URL" ] || { echo "hersh dev did not start within 30 s" >&2; cat "$dir/dev.log" >&2; exit 1; }
export NATS_URL

say "A folder with a Dockerfile becomes a program: packed, uploaded, built, and started in a sandbox."
show bin/hersh deploy examples/counter --user alice --start --wait 2>&1 | tee "$dir/deployed"
id=$(grep '^alice-' "$dir/deployed")
short=${id##*-} # Any unique beginning or end of an ID will do.
show bin/hersh ps
sleep 2 # So that the counter has something to say.
show bin/hersh logs "$short"

say "Restarted: stopped, built again, started again. It goes on counting, since /state stays."
show bin/hersh restart "$short" --wait
sleep 2
show bin/hersh logs "$short"

say "Crashed: the counter exits with the code that it finds in /state/crash."
printf '$ echo 42 > /state/crash\n'
echo 42 >"$dir/programs/$id/state/crash"
for _ in $(seq 100); do
	bin/hersh status "$id" | grep -q '^state *Error' && break
	sleep 0.2
done
show bin/hersh status "$short"

say "Retried, and stopped."
show bin/hersh start "$short" --wait
show bin/hersh stop "$short" --wait

say "Everything that happened, and what each event made the hosts do. This is the program; all else is made of it."
show bin/hersh history "$short"

say "The state as it was after event 5, replayed from the log."
show bin/hersh replay "$short" --at 5

say "Is the read model what the logs say?"
show bin/hersh audit
