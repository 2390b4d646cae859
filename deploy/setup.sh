#!/usr/bin/env bash
# Gives a bare machine what the toolchain needs; says what it does, and does nothing that is done already.
#   deploy/setup.sh plan LOCK    what will be downloaded and installed, how much it is, and what of it needs root; the
#                                makefile asks for it before any of the others
#   deploy/setup.sh packages     Debian's packages: python3-venv, npm, ca-certificates, git
#   deploy/setup.sh venv LOCK    .venv from hash-locked requirements, and this project in it
#   deploy/setup.sh engine       a Docker Engine that answers
#   deploy/setup.sh servers      what the tests start servers of: PostgreSQL, sshd, a registry, networks of their own;
#                                and Chromium, which looks at the page of ours
#                                (without them they skip, and say so)
# As root on Debian or Ubuntu it installs what is missing; elsewhere it says what to install, and stops.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # dockerd is there, and not on every user's path

say() { echo "set-up: $*" >&2; }
stop() { echo "set-up: $*" >&2; exit 1; }

# Next to what the toolchain keeps; installed from a package, this script lies where nobody keeps a log.
if [ -e Makefile ]; then LOG=$PWD/.toolchain/setup.log; else LOG=${TMPDIR:-/tmp}/edge-toolchain-setup-$(id -u).log; fi

# stage TITLE COMMAND...: run it with its output in the log; one line in a pipe, one that is rewritten on a terminal.
# When it fails, the end of its output is shown, and its exit status is returned.
stage() {
    local title=$1 status=0 began=$SECONDS first pid signs='|/-\' turn=0
    shift
    mkdir -p "$(dirname "$LOG")"
    echo "$(date): $*" >>"$LOG"
    first=$(($(wc -l <"$LOG") + 1))
    if [ -t 2 ]; then
        "$@" >>"$LOG" 2>&1 &
        pid=$!
        trap 'kill "$pid" 2>/dev/null; exit 130' INT # bash leaves a background command deaf to Ctrl-C
        while kill -0 "$pid" 2>/dev/null; do
            printf '\r\033[Kset-up: %s %s, %d s (log: %s)' "${signs:turn++%4:1}" "$title" $((SECONDS - began)) "$LOG" >&2
            sleep 0.2
        done
        wait "$pid" || status=$?
        trap - INT
        printf '\r\033[K' >&2
        [ "$status" -ne 0 ] || say "$title: done in $((SECONDS - began)) s"
    else
        say "$title (log: $LOG)"
        "$@" >>"$LOG" 2>&1 || status=$?
    fi
    if [ "$status" -ne 0 ]; then
        say "$title: failed with exit status $status; its output ends:"
        tail -n "+$first" "$LOG" | tail -n 15 >&2
    fi
    return "$status"
}

# OFFERED: those of these packages that this system has.
# Debian 13 and Ubuntu have docker-cli, docker-buildx or both as packages of their own; Debian 12 has neither.
# Ubuntu has chromium only as a snap.
offered() {
    local package
    OFFERED=()
    for package; do
        case $package in docker-cli | docker-buildx | chromium) apt-cache show "$package" >/dev/null 2>&1 || continue ;; esac
        OFFERED+=("$package")
    done
}

# Install Debian packages, or say that a person has to.
install_packages() {
    command -v apt-get >/dev/null ||
        stop "missing: $*; install them with this system's package manager, then run make again"
    export DEBIAN_FRONTEND=noninteractive
    [ "$(id -u)" -ne 0 ] || stage "package lists of this system" apt-get update -qq
    offered "$@"
    [ ${#OFFERED[@]} -gt 0 ] || return 0
    set -- "${OFFERED[@]}"
    [ "$(id -u)" -eq 0 ] ||
        stop "missing: $*; type: sudo apt-get install --no-install-recommends $*, then run make again"
    stage "installing $*" apt-get install -y -qq --no-install-recommends "$@"
}

# What the Python environment and the default data set need of the system, where it is not here; one a line.
missing_packages() {
    command -v python3 >/dev/null || echo python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    command -v npm >/dev/null || echo npm
    command -v git >/dev/null || echo git
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || echo ca-certificates
}

# The same for images and containers.
missing_engine() {
    if answers; then
        [ "$(id -u)" -eq 0 ] && [ -e /etc/debian_version ] || return 0
        command -v mmdebstrap >/dev/null || printf '%s\n' mmdebstrap debian-archive-keyring
        can_build || echo docker-buildx
    elif permitted && [ -z "${DOCKER_HOST:-}" ] && ! { command -v dockerd && command -v docker; } >/dev/null; then
        printf '%s\n' docker.io docker-cli docker-buildx iptables mmdebstrap debian-archive-keyring
    fi
}

# How much apt-get would download for these packages and what they need, as it says itself; "" without package lists.
apt_size() {
    apt-get install --print-uris -qq --no-install-recommends "$@" 2>/dev/null |
        awk '{ size += $3 } END { if (NR) printf "%.0f MB", size / 1e6 }'
}

plan() {
    local lock=$1 size system=() size_of=''
    mapfile -t system < <(missing_packages; missing_engine)
    if [ ${#system[@]} -gt 0 ] && command -v apt-get >/dev/null; then
        offered "${system[@]}"
        size_of=$(apt_size "${OFFERED[@]}")
        say "as root, by apt-get: ${OFFERED[*]} (${size_of:-apt-get update tells how much} to download)"
    elif [ ${#system[@]} -gt 0 ]; then
        say "as root, by this system's package manager: ${system[*]}"
    fi
    size=$(download_of "$lock")
    say "without root, into .venv: Python packages of $lock (${size:-size not known} to download, less what is in uv's cache)"
}

# What `make lock` measured.
download_of() { sed -n 's/^# download: //p' "$1"; }

packages() {
    local missing=()
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
    python3 -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' ||
        stop "$(python3 --version) found, 3.11 or later expected; install it, then run make again"
}

venv() {
    local lock=$1
    [ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null || python3 -m venv --clear .venv
    local pip=(.venv/bin/python -m pip --disable-pip-version-check)
    stage "uv, which installs Python packages" "${pip[@]}" install -q --require-hashes --no-deps -r requirements/uv.txt
    # uv is ten times faster but does not read pip's configuration files (a private index, say): then pip does it.
    # --no-deps: a lock is complete, and leaves out what requirements/cpu-overrides.in says.
    if ! stage "Python packages of $lock" \
        .venv/bin/uv pip install --python .venv/bin/python --require-hashes --no-deps -r "$lock"; then
        stage "the same with pip, which reads its own configuration" \
            "${pip[@]}" install --require-hashes --no-deps --progress-bar off -r "$lock"
    fi
    PYTHONWARNINGS=ignore stage "this project" "${pip[@]}" install -q --no-deps --no-build-isolation -e .
}

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# The engine's words tell a missing permission from a missing engine.
permitted() { ! docker version 2>&1 | grep -qi 'permission denied'; }

wait_for_engine() {
    for _ in $(seq 120); do
        answers && return
        sleep 0.5
    done
    stop "the Docker Engine did not answer within a minute; its log (/var/log/dockerd.log, or journalctl -u docker)" \
        "ends: $(tail -n 1 /var/log/dockerd.log 2>/dev/null | cut -c 1-400)"
}

# A pid file that outlived its daemon (this machine is a container that was started again, say) keeps a new one from
# starting as soon as any other process has that number.
forget_stale_pids() {
    local file
    for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
        [ -e "$file" ] || continue
        case "$(cat "/proc/$(tr -dc 0-9 <"$file")/comm" 2>/dev/null)" in
            dockerd | containerd) ;;
            *) say "removing $file, whose daemon is gone" && rm -f "$file" ;;
        esac
    done
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        systemctl enable --now docker >&2
    else
        forget_stale_pids
        say "no systemd here: starting dockerd by itself (log: /var/log/dockerd.log)"
        setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    fi
    wait_for_engine
}

# As deploy/docker/engine.py finds it: through buildx, or by a client of 20.10 to 22 itself.
can_build() {
    local client
    for client in $(type -ap docker); do
        "$client" buildx version >/dev/null 2>&1 && return
        [[ $("$client" --version) =~ ^Docker\ version\ (18|19|20|21|22)\. ]] && return
    done
    return 1
}

engine() {
    local missing=()
    mapfile -t missing < <(missing_engine)
    if answers; then
        [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
        return
    fi
    permitted ||
        stop "no permission to use Docker; type: sudo usermod -aG docker $(id -un), log in again, then run make again"
    [ -z "${DOCKER_HOST:-}" ] || stop "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST; start it, or unset the variable"
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
    [ "$(id -u)" -eq 0 ] || stop "the Docker Engine is installed but does not answer; type: sudo systemctl start docker"
    answers || start_engine
    say "Docker Engine $(docker version --format '{{.Server.Version}}') answers"
}

servers() {
    local missing=()
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    [ -x /usr/sbin/sshd ] || missing+=(openssh-server)
    command -v ip >/dev/null || missing+=(iproute2)
    command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
    command -v docker-registry >/dev/null || missing+=(docker-registry)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        install_packages "${missing[@]}"
    else
        say "not here: ${missing[*]}; the tests that need them are skipped"
    fi
}

"$@"
