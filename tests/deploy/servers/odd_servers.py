"""Edge servers that answer oddly: a Docker Engine's API on a real socket, behind a real sshd, each odd in one way."""

import getpass
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from deploy.docker.labels import NAME, ROLE
from deploy.docker.tar import add_member
from deploy.servers.answers import ANSWER_BYTES
from deploy.servers.containers import SOCKET_FOLDER, SOCKET_HOLDER
from deploy.servers.release_image import lock_name, socket_holder_name
from deploy.servers.trust_volume import FOLDER, FileCopy, frame_copy, trust_volume_name
from tests.edges import SSHD, done, wait_for

GOOD: dict[str, Any] = {
    "/_ping": "OK",
    "/version": {"ApiVersion": "1.41", "Version": "20.10.24"},
    "/info": {
        "Architecture": "x86_64", "DockerRootDir": "/", "KernelVersion": "5", "MemTotal": 1 << 30, "NCPU": 2,
        "ServerVersion": "20.10.24", "Runtimes": {}, "DriverStatus": [],
    },
    "/images/json": [],
}  # fmt: skip
TAKEN = {"message": "that name is taken"}
HALF_A_LINE = b'{"at":"then","who":"bob","what":"ship: 1","release":"1","outcome":"li'
# by kind: what differs from a sound engine. A path's answer, as JSON or as bytes; or a file of a container
ANSWERS: dict[str, Mapping[str, Any]] = {
    "garbage": {"/containers/json": b'{"a": [', "/info": b"\xff\xfe<html>"},
    "version": {"/version": {}},
    "fields": {"/containers/json": [{}], "/info": {"NCPU": "many"}},
    "nested": {"/containers/json": b"[" * 100_000, "/info": b"[" * 100_000},
    "large": {"/containers/json": b"[" + b" " * (ANSWER_BYTES + 1), "/info": b"[" + b" " * (ANSWER_BYTES + 1)},
    "types": {"/containers/json": {"Id": [1]}, "/info": [None]},
    "trusted": {},
    "audit": {"/info": {**GOOD["/info"], "DockerRootDir": "/proc"}},  # its audit is only warned of; it has no room
    "live": {},
    "lock": {},
    "closes": {},
}
TOLD = {
    "garbage": "an answer from there cannot be read",
    "version": "no Docker Engine at",
    "fields": "an answer from there cannot be read",
    "nested": "an answer from there cannot be read",
    "large": "an answer from its engine is larger than 32 MB",
    "types": "an answer from there cannot be read",
    "trusted": "trusted.json there cannot be read",
    "audit": "0 MB free in /proc there",
    "live": "live there is no container's name",
    "lock": "locked by nobody knows whom",
    "closes": "ssh failed",
}
KINDS = tuple(ANSWERS)


class OddEngine(ThreadingMixIn, UnixStreamServer):
    """The engine of a server where `model` was shipped. containers: labels by name; files: by (container, path)."""

    daemon_threads = True

    def __init__(self, place: Path, kind: str, model: str) -> None:
        self.answers = {**GOOD, **ANSWERS[kind]}
        self.containers = {
            socket_holder_name(model): {ROLE: SOCKET_HOLDER, NAME: model},
            trust_volume_name(model): {ROLE: "trust", NAME: model},
        }
        self.files = {(trust_volume_name(model), f"{FOLDER}/format.0"): frame_copy(FileCopy(1, b"1"))}
        for name, content in {"trusted": (b'{"key": 1}'), "audit": HALF_A_LINE}.items():
            if kind == name:
                file = {"trusted": "trusted.json.0", "audit": "audit.jsonl.0"}[name]
                self.files[trust_volume_name(model), f"{FOLDER}/{file}"] = frame_copy(FileCopy(1, content))
        if kind == "live":
            self.files[socket_holder_name(model), f"{SOCKET_FOLDER}/live"] = b"\xff\xfe"
        if kind == "lock":
            self.containers[lock_name(model)] = {}
        super().__init__(str(place), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: OddEngine
    protocol_version = "HTTP/1.1"
    statuses: ClassVar[Mapping[str, int]] = {"POST": 201, "DELETE": 204}

    def address_string(self) -> str:
        return ""

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(re.sub(r"^/v1\.\d+", "", self.path))
        found = self._find(url.path, parse_qs(url.query), body)
        status = 404 if found is None else 409 if found is TAKEN else self.statuses.get(self.command, 200)
        content = (
            found
            if isinstance(found, bytes)
            else json.dumps(found or {"message": "No such image or container"}).encode()
        )
        if found == []:
            content = b"[]"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(0 if status == 204 else len(content)))
        self.end_headers()
        with suppress(BrokenPipeError):  # a client that reads no further than its bound
            self.wfile.write(b"" if status == 204 else content)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def _find(self, path: str, query: Mapping[str, list[str]], body: bytes) -> Any:
        """None: there is no such thing."""
        engine = self.server
        if path in engine.answers:
            return engine.answers[path]
        if path == "/containers/json":
            wanted = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
            named = [name for name, labels in engine.containers.items() if _has(labels, wanted)]
            return [{"Id": name} for name in named]
        if path == "/containers/create":
            return self._create(query["name"][0], json.loads(body)["Labels"])
        if path.startswith("/images/edge-toolchain-empty"):
            return {"Id": f"sha256:{'0' * 64}", "RepoTags": []}
        _, kind, name, *more = path.split("/")
        if kind != "containers" or name not in engine.containers:
            return None
        return self._find_in_container(name, more, query, body)

    def _create(self, name: str, labels: Mapping[str, str]) -> Any:
        if name in self.server.containers:
            return TAKEN
        self.server.containers[name] = dict(labels)
        return {"Id": name}

    def _find_in_container(self, name: str, more: list[str], query: Mapping[str, list[str]], body: bytes) -> Any:
        engine = self.server
        if self.command == "DELETE":
            return engine.containers.pop(name)
        if more == ["archive"] and self.command == "PUT":
            with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                for entry in archive:
                    file = archive.extractfile(entry)
                    engine.files[name, f"{query['path'][0]}/{entry.name}"] = file.read() if file else b""
            return b""
        if more == ["archive"]:
            content = engine.files.get((name, query["path"][0]))
            return None if content is None else _archive(Path(query["path"][0]).name, content)
        labels = engine.containers[name]
        return {
            "Id": name,
            "Name": f"/{name}",
            "State": {"Status": "created"},
            "Config": {"Labels": labels},
            "Image": "",
        }


def _has(labels: Mapping[str, str], wanted: list[str]) -> bool:
    return all(labels.get(label.partition("=")[0]) == label.partition("=")[2] for label in wanted)


def _archive(name: str, content: bytes) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        add_member(archive, name, content)
    return held.getvalue()


@contextmanager
def odd_servers(folder: Path, model: str) -> Iterator[str]:
    """A server of each kind, named for it: their part of an inventory. `folder`/bin gets an `ssh` that knows them, or
    the one that is there is told of them."""
    with ExitStack() as stack:
        port, closing = stack.enter_context(_sshd(folder)), stack.enter_context(_closing_port())
        hosts = (
            f"IdentityFile {folder}/odd-user\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
        )
        lines = [f"Host odd-*\nHostName 127.0.0.1\nUser {getpass.getuser()}\n{hosts}"]
        lines += [f"Host odd-closes\nPort {closing}\nHost odd-*\nPort {port}\n"]
        config = folder / "config"
        config.write_text((config.read_text() if config.exists() else "") + "".join(lines))
        _write_ssh(folder)
        text = ""
        for kind in KINDS:
            place = folder / f"{kind}.sock"
            engine = stack.enter_context(OddEngine(place, kind, model))
            threading.Thread(target=engine.serve_forever, daemon=True).start()
            stack.callback(engine.shutdown)
            text += f"[[server]]\nname = '{kind}'\naddress = 'odd-{kind}'\nsocket = '{place}'\n"
        yield text


def _write_ssh(folder: Path) -> None:
    ssh = folder / "bin" / "ssh"
    if not ssh.exists():
        ssh.parent.mkdir(exist_ok=True)
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
        ssh.chmod(0o755)


@contextmanager
def _sshd(folder: Path) -> Iterator[int]:
    """The port of an sshd on this machine, with a home of its own for who comes."""
    for name in ("odd-user", "odd-host"):
        done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    home = folder / "odd-home"
    home.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "odd-sshd").write_text(
        f"HostKey {folder}/odd-host\nAuthorizedKeysFile {folder}/odd-user.pub\nStrictModes no\nPidFile none\n"
        f"ListenAddress 127.0.0.1:{port}\nMaxStartups 100\nMaxSessions 100\n"
        f'ForceCommand echo "Welcome to $HOSTNAME"; export HOME={home}; exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    with subprocess.Popen([SSHD, "-D", "-f", str(folder / "odd-sshd")], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: _listens(port), "the sshd of odd servers")
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _closing_port() -> Iterator[int]:
    """Where whoever connects is closed out at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_close_all, args=(listening,), daemon=True).start()
        yield int(listening.getsockname()[1])


def _close_all(listening: socket.socket) -> None:
    while True:
        try:
            listening.accept()[0].close()
        except OSError:
            return


def with_ssh_of(folder: Path) -> str:
    """PATH with the `ssh` of `folder` first."""
    return f"{folder}/bin:{os.environ['PATH']}"
