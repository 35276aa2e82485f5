#!/usr/bin/env bash
# Makes sure that this machine can run programs: a Docker daemon that answers, and gVisor (the runtime "runsc") in it.
# It does only what is missing, so that calling it again costs a second and changes nothing.
#
# usage: scripts/ensure-docker.sh [--print-runtime] [--require-gvisor]
#
#   --print-runtime    print "runsc" or "runc" on standard output: the strongest runtime that really runs a container.
#                      Everything else goes to standard error, with or without this flag.
#   --require-gvisor   a machine without gVisor is a failure, not a weaker sandbox.
#
# exit code: 0  Docker runs containers (with gVisor, or without it and a line says what is weaker)
#            1  Docker cannot be used; the commands that would mend it were printed
#            2  wrong usage
#            3  only gVisor is missing, and --require-gvisor was given
#
# On Debian and Ubuntu, as root, it installs the distribution's packages, registers runsc in /etc/docker/daemon.json and
# starts the daemon. Anywhere else, and for a Docker that is not the distribution's own, it changes nothing and says
# what to do.

set -euo pipefail
exec </dev/null # Nothing here asks a question, and a closed standard input would lend its number to the next open file.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=/etc/docker/daemon.json
pidfile=/var/run/docker.pid
daemon_log=/var/log/hersh-dockerd.log
name=hersh-probe-$$ # of the probe's container and image, unique to this run
export LC_ALL=C COPYFILE_DISABLE=1
export PATH="$PATH:/usr/sbin:/sbin:/usr/local/go/bin"

work=        # scratch folder, removed at the end
probe_built= # set once the probe's image exists
apt_updated= # set once the package lists are fresh
why=         # why gVisor cannot be used, one line
mend=        # the command that would change that

say() { printf 'ensure-docker: %s\n' "$*" >&2; }

main() {
  local print_runtime='' require_gvisor='' runtime=runsc
  for arg in "$@"; do
    case $arg in
      --print-runtime) print_runtime=1 ;;
      --require-gvisor) require_gvisor=1 ;;
      -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
      *) say "unknown argument $arg; see --help" && exit 2 ;;
    esac
  done
  work=$(mktemp -d)
  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  wait_for_turn
  command -v go >/dev/null || { say "Go is not in PATH; it is needed to build the probe container" && exit 1; }

  docker_answers || provide_docker || exit 1
  if gvisor_runs || provide_gvisor; then
    say "Docker $(server '{{.Version}}') is ready, with gVisor"
  else
    runtime=runc
    say_what_is_weaker
  fi
  [ -z "$print_runtime" ] || echo "$runtime"
  [ "$runtime" = runsc ] || [ -z "$require_gvisor" ] || exit 3
}

# cleanup removes what only this run needed. It must not change the exit code.
cleanup() {
  if [ -n "$probe_built" ]; then
    run_for 30 docker rm -f "$name" >/dev/null 2>&1 || true
    run_for 30 docker image rm -f "$name" >/dev/null 2>&1 || true
  fi
  rm -rf "$work"
}

# wait_for_turn makes two runs at once (`make demo` beside `make test`) follow each other. The lock is on this very
# file, so that none is left behind; descriptor 9 is closed for everything that may outlive the script.
wait_for_turn() {
  if command -v flock >/dev/null; then
    exec 9<"${BASH_SOURCE[0]}"
    flock -w 600 9 || { say "another run has not ended after 10 minutes" && exit 1; }
  fi
}

# run_for SECONDS COMMAND... bounds a command where the system can (macOS has no timeout).
run_for() {
  if command -v timeout >/dev/null; then
    timeout -k 5 "$@"
  else
    shift
    "$@"
  fi
}

server() { run_for 10 docker version --format "{{with .Server}}$1{{end}}" 2>/dev/null; }

docker_answers() { run_for 10 docker version >/dev/null 2>&1; }

# wait_until SECONDS COMMAND... polls, because neither a starting nor a reloading daemon tells anyone when it is done.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# --- What may be changed here -----------------------------------------------------------------------------------------

is_debian() {
  [ -r /etc/os-release ] || return 1
  # shellcheck disable=SC1091 # It is the system's file, not ours.
  case " $(. /etc/os-release && echo "${ID:-} ${ID_LIKE:-}") " in
    *" debian "* | *" ubuntu "*) command -v apt-get >/dev/null ;;
    *) return 1 ;;
  esac
}

is_root() { [ "$(id -u)" = 0 ]; }

# is_elsewhere: the client was told to talk to some other daemon, which is not this script's to install or configure.
is_elsewhere() {
  [ "${DOCKER_CONTEXT:-default}" = default ] || return 0
  case ${DOCKER_HOST:-} in
    '' | unix:///var/run/docker.sock | unix:///run/docker.sock) return 1 ;;
  esac
}

has_systemd() { [ -d /run/systemd/system ]; }

# is_alive PID NAME: a zombie is dead, and a recycled process ID belongs to somebody else.
is_alive() {
  local status
  [ -n "$1" ] && status=$(cat "/proc/$1/status" 2>/dev/null) || return 1
  [[ $status == "Name:"$'\t'"$2"$'\n'* && $status != *$'\n'"State:"$'\t'[ZX]* ]]
}

# is_distributions_daemon: the daemon that runs is the one of the package docker.io, reading the usual configuration.
is_distributions_daemon() {
  local pid exe
  pid=$(cat "$pidfile" 2>/dev/null) && is_alive "$pid" dockerd || return 1
  exe=$(readlink "/proc/$pid/exe") || return 1
  dpkg -S "${exe% (deleted)}" 2>/dev/null | grep -q '^docker\.io:' || return 1
  ! tr '\0' '\n' <"/proc/$pid/cmdline" | grep -q '^--config-file'
}

# install PACKAGE... from the distribution, quietly unless it fails.
install() {
  say "installing $*"
  if [ -z "$apt_updated" ]; then
    # A broken third-party list is no reason to stop: what counts is whether the packages can be had.
    apt-get -qq update >"$work/apt.log" 2>&1 9<&- || true
    apt_updated=1
  fi
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -qq -o DPkg::Lock::Timeout=300 \
    install -y --no-install-recommends "$@" >>"$work/apt.log" 2>&1 9<&- && return
  say "apt-get install $* failed:"
  tail -n 5 "$work/apt.log" >&2
  return 1
}

# --- Docker -----------------------------------------------------------------------------------------------------------

# provide_docker ends with a daemon that answers, or with the commands that a person has to type.
provide_docker() {
  if is_elsewhere || ! is_debian || ! is_root; then
    say_how_to_get_docker
    return 1
  fi
  # A client alone (some machines have one) is not enough, and a daemon of another make is as good as the package.
  if ! command -v dockerd >/dev/null; then
    install docker.io iptables || return 1
  fi
  # Newer releases have the client in a package of its own.
  if ! command -v docker >/dev/null; then
    install docker-cli || return 1
  fi
  docker_answers || start_docker
}

start_docker() {
  if has_systemd; then
    systemctl start docker 9<&- || { say "see: journalctl -u docker" && return 1; }
    wait_until 60 docker_answers && say "started Docker" && return
    say "Docker was started but does not answer; see: journalctl -u docker"
    return 1
  fi
  # The package's own init script may be starting one at this very moment.
  if ! daemon_exists; then
    remove_stale_state
    # A session of its own keeps it running when the terminal closes; "/" keeps no folder busy.
    (cd / && exec setsid nohup dockerd) >>"$daemon_log" 2>&1 9<&- &
  fi
  wait_until 60 answers_or_died && docker_answers && say "started dockerd (log: $daemon_log)" && return
  say "dockerd does not answer. The end of $daemon_log:"
  tail -n 5 "$daemon_log" >&2 || true
  return 1
}

answers_or_died() {
  docker_answers && return
  sleep 0.5 # the daemon's process may not have its name yet
  ! daemon_exists
}

# daemon_exists: some dockerd runs beside us, whether it answers or not. One inside a container does not count.
daemon_exists() {
  local dir
  for dir in /proc/[0-9]*; do
    is_alive "${dir#/proc/}" dockerd && [ "$dir/ns/pid" -ef /proc/self/ns/pid ] && return
  done
  return 1
}

# remove_stale_state removes what a daemon that was killed left behind and the next one trips over: it takes any
# process with the number in a pidfile for the old daemon, and any socket file for a containerd to wait for.
remove_stale_state() {
  local containerd_pidfile=/var/run/docker/containerd/containerd.pid containerd_socket=/run/containerd/containerd.sock
  is_alive "$(cat "$pidfile" 2>/dev/null)" dockerd || rm -f "$pidfile"
  is_alive "$(cat "$containerd_pidfile" 2>/dev/null)" containerd || rm -f "$containerd_pidfile"
  grep -qE " (/var)?$containerd_socket\$" /proc/net/unix || rm -f "$containerd_socket"
}

say_how_to_get_docker() {
  local reason
  reason=$(run_for 10 docker version 2>&1 >/dev/null | tail -n 1) || true
  say "Docker cannot be used: ${reason:-no answer}"
  if is_elsewhere; then
    say "DOCKER_HOST or DOCKER_CONTEXT names another daemon. Start that one, or: unset DOCKER_HOST DOCKER_CONTEXT"
  elif [[ $reason == *"permission denied"* ]]; then
    say "To mend it: sudo usermod -aG docker $(id -un), then log in again"
  elif is_debian; then
    say "To mend it: sudo env \"PATH=\$PATH\" $root/scripts/ensure-docker.sh"
    say "and, to use it without sudo: sudo usermod -aG docker $(id -un), then log in again"
  elif [ "$(uname -s)" = Darwin ]; then
    say "To mend it: brew install docker colima && colima start"
  elif command -v dnf >/dev/null; then
    say "To mend it: sudo dnf install -y moby-engine && sudo systemctl enable --now docker"
  elif command -v pacman >/dev/null; then
    say "To mend it: sudo pacman -S docker && sudo systemctl enable --now docker"
  else
    say "To mend it: see https://docs.docker.com/engine/install/"
  fi
}

# --- gVisor -----------------------------------------------------------------------------------------------------------

gvisor_runs() { [ -n "$(registered_runsc)" ] && probe runsc; }

# registered_runsc prints the command line that the running daemon has for runsc, nothing where it has none.
registered_runsc() {
  # shellcheck disable=SC2016 # The dollars belong to Docker's template.
  run_for 10 docker info 2>/dev/null --format \
    '{{range $name, $r := .Runtimes}}{{if eq $name "runsc"}}{{$r.Path}} {{join $r.Args " "}}{{end}}{{end}}' || true
}

# provide_gvisor installs and registers runsc, and proves that it runs. Where it does not, the daemon's configuration
# is put back and $why says what went wrong.
provide_gvisor() {
  mend="see https://gvisor.dev/docs/user_guide/install/, then: sudo runsc install && sudo systemctl reload docker"
  if is_elsewhere || ! is_debian; then
    why="the runtime runsc is not registered or does not run in this Docker"
    return 1
  elif ! is_root; then
    why="only root can register the runtime runsc"
    mend="sudo env \"PATH=\$PATH\" $root/scripts/ensure-docker.sh"
    return 1
  elif ! is_distributions_daemon; then
    why="this Docker is not the distribution's own, so its configuration is left alone"
    return 1
  fi
  command -v runsc >/dev/null || install runsc || { why="the package runsc cannot be installed" && return 1; }

  rm -f "$work/daemon.json"
  [ ! -e "$config" ] || cp -p "$config" "$work/daemon.json" || { why="$config cannot be read" && return 1; }
  # Plain first. Some releases of runsc refuse a sandbox without a network ("cannot run with network enabled in root
  # network namespace") on newer kernels unless they are told that it has none, which is what programs get anyway.
  try_runsc || try_runsc --network=none && return
  why="runsc does not run a container: $(probe_error)"
  restore_config
  return 1
}

# try_runsc [ARG...] registers runsc, with these arguments, and runs a container under it.
try_runsc() {
  rm -f "$work/probe.err"
  (cd "$root" && go run -buildvcs=false ./scripts/internal/daemonjson "$config" runsc "$(command -v runsc)" "$@") 2>"$work/probe.err" || return 1
  reload_docker || return 1
  wait_until 10 runsc_has "$@" || { echo "the daemon did not take it from $config" >"$work/probe.err" && return 1; }
  probe runsc || return 1
  say "registered the runtime runsc${*:+ with $*} in $config"
}

runsc_has() {
  local line
  line=$(registered_runsc)
  [[ -n $line && ($# = 0 || " $line " == *" $* "*) ]]
}

reload_docker() { kill -HUP "$(cat "$pidfile")"; }

# restore_config puts the file back as it was. Where it names no runtimes the daemon itself forgets ours only when it is
# started next, which is harmless: what does not run is not offered to anyone.
restore_config() {
  if [ -e "$work/daemon.json" ]; then
    cat "$work/daemon.json" >"$config"
  else
    rm -f "$config"
  fi
  reload_docker || true
}

# probe RUNTIME runs a container, and makes sure that it met the kernel of that runtime. $work/probe.err says why not.
probe() {
  local kernel
  build_probe
  rm -f "$work/cid"
  if ! kernel=$(run_for 60 docker run --rm --name "$name" --cidfile "$work/cid" --runtime "$1" --network none --read-only \
    "$name" 2>"$work/probe.err"); then
    kill_leftovers
    return 1
  fi
  [ "$1" != runsc ] || [ "$kernel" = gvisor ] || { echo "it ran on the host's kernel" >"$work/probe.err" && return 1; }
}

# kill_leftovers ends the processes of a container that failed to start: the sandbox of runsc can stay, with its shim,
# where neither Docker nor containerd can remove it any more. All of them carry the container's ID in their arguments.
kill_leftovers() {
  local id dir
  run_for 30 docker rm -f "$name" >/dev/null 2>&1 || true
  id=$(cat "$work/cid" 2>/dev/null) && [ ${#id} = 64 ] && is_root || return 0
  for dir in /proc/[0-9]*; do
    ! grep -qs "$id" "$dir/cmdline" || kill -9 "${dir#/proc/}" 2>/dev/null || true
  done
}

# probe_error prints the first line of what went wrong: Docker's next ones advertise its help.
probe_error() { sed -n '/./{s/^docker: //;p;q;}' "$work/probe.err" 2>/dev/null | cut -c 1-300; }

# build_probe makes an image of one static binary. It is imported, not built: no builder, no base image and no network
# is needed. Version control has no say in it: Git refuses its services to a root that does not own the checkout.
build_probe() {
  [ -z "$probe_built" ] || return 0
  probe_built=1
  if ! (cd "$root" && CGO_ENABLED=0 GOOS=linux GOARCH=$(server '{{.Arch}}') \
    go build -buildvcs=false -trimpath -ldflags='-s -w' -o "$work/probe" ./scripts/internal/probe) ||
    ! tar -C "$work" -cf "$work/probe.tar" probe ||
    ! docker import --change 'ENTRYPOINT ["/probe"]' "$work/probe.tar" "$name" >/dev/null; then
    say "the probe's image cannot be made"
    exit 1
  fi
}

# say_what_is_weaker ends the run with 1 where Docker answers but does not run a container under runc either.
say_what_is_weaker() {
  if ! probe runc; then
    say "Docker answers but cannot run a container: $(probe_error)"
    exit 1
  fi
  say "Docker $(server '{{.Version}}') is ready, without gVisor ($why)"
  say "weaker: under runc a program shares this machine's kernel, so one kernel bug lets it out; \`make demo\` can go on with runc, services need --runtime runc"
  say "To mend it: $mend"
}

main "$@"
