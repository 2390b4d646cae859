#!/usr/bin/env bash
# Gives a bare machine what the toolchain needs; says what it does, and does nothing that is done already.
#   deploy/setup.sh packages     Debian's packages: python3-venv, npm, ca-certificates, git
#   deploy/setup.sh venv LOCK    .venv from hash-locked requirements, and this project in it
#   deploy/setup.sh engine       a Docker Engine that answers
#   deploy/setup.sh servers      what the tests start servers of: PostgreSQL (without it they skip, and say so)
# As root on Debian or Ubuntu it installs what is missing; elsewhere it says what to install, and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "set-up: $*" >&2; }
stop() { echo "set-up: $*" >&2; exit 1; }

# Install Debian packages, or say that a person has to.
install_packages() {
    if ! command -v apt-get >/dev/null; then
        stop "missing: $*; install them with this system's package manager, then run make again"
    elif [ "$(id -u)" -ne 0 ]; then
        stop "missing: $*; type: sudo apt-get install --no-install-recommends $*, then run make again"
    fi
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "$@" >&2
}

packages() {
    local missing=()
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    command -v npm >/dev/null || missing+=(npm)
    command -v git >/dev/null || missing+=(git)
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || missing+=(ca-certificates)
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
    python3 -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' ||
        stop "$(python3 --version) found, 3.11 or later expected; install it, then run make again"
}

venv() {
    local lock=$1
    say "Python packages into .venv from $lock (5.9 GB; some minutes the first time)"
    [ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null || python3 -m venv --clear .venv
    local pip=(.venv/bin/python -m pip --disable-pip-version-check)
    "${pip[@]}" install -q --require-hashes --no-deps -r requirements/uv.txt
    # uv is ten times faster but does not read pip's configuration files (a private index, say): then pip does it.
    if ! .venv/bin/uv pip install --python .venv/bin/python --require-hashes -r "$lock"; then
        say "uv could not install them; trying pip, which reads its own configuration"
        "${pip[@]}" install --require-hashes --no-deps --progress-bar off -r "$lock"
    fi
    PYTHONWARNINGS=ignore "${pip[@]}" install -q --no-deps --no-build-isolation -e .
    say "Python packages are there"
}

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# The engine's words tell a missing permission from a missing engine.
permitted() { ! docker version 2>&1 | grep -qi 'permission denied'; }

wait_for_engine() {
    for _ in $(seq 120); do
        answers && return
        sleep 0.5
    done
    stop "the Docker Engine did not answer within a minute; its log: /var/log/dockerd.log, or journalctl -u docker"
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        systemctl enable --now docker >&2
    else
        say "no systemd here: starting dockerd by itself (log: /var/log/dockerd.log)"
        setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    fi
    wait_for_engine
}

engine() {
    if answers; then
        [ "$(id -u)" -ne 0 ] || [ ! -e /etc/debian_version ] || command -v mmdebstrap >/dev/null ||
            install_packages mmdebstrap debian-archive-keyring
        return
    fi
    permitted || stop "no permission to use Docker; type: sudo usermod -aG docker $USER, log in again, then run make again"
    [ -z "${DOCKER_HOST:-}" ] || stop "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST; start it, or unset the variable"
    command -v dockerd >/dev/null || install_packages docker.io iptables mmdebstrap debian-archive-keyring
    # Clients from 23 on build through a plug-in, which Debian 12 does not have and does not need.
    if [ "$(id -u)" -eq 0 ] && apt-cache show docker-buildx >/dev/null 2>&1 && ! docker buildx version >/dev/null 2>&1; then
        install_packages docker-buildx
    fi
    [ "$(id -u)" -eq 0 ] || stop "the Docker Engine is installed but does not answer; type: sudo systemctl start docker"
    answers || start_engine
    say "Docker Engine $(docker version --format '{{.Server.Version}}') answers"
}

servers() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        install_packages postgresql
    else
        say "no PostgreSQL server here: the ledger's tests on it are skipped"
    fi
}

"$@"
