# Sourced by the tests of compose files: need_compose sets the array compose to docker-compose 1.29 or Compose v2, whichever is
# there, and installs Debian's where neither is.
need_compose() {
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
}
