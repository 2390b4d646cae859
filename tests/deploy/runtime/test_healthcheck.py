"""The image's health check, run as the image runs it, against every kind of server."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import ROOT, command, serving

CHECK = "deploy/runtime/healthcheck.py"


@pytest.mark.parametrize("kind", ["plain", "tls", "mutual", "token"])
def test_the_images_health_check_finds_every_kind_of_server_ready(tmp_path: Path, kind: str) -> None:
    ours, tokens = Authority(tmp_path), tmp_path / "tokens"
    issued = ours.issue("server")
    tokens.write_text("a-token-of-ours-to-test-with")
    tls = ("--tls-cert", issued.cert, "--tls-key", issued.key)
    flags = {"plain": (), "tls": tls, "mutual": (*tls, "--tls-client-ca", ours.root), "token": ("--token-file", tokens)}
    with serving(null_bundle(tmp_path / "null.bundle").folder, *flags[kind]) as server:
        for told in ({}, {"TLS_CERT": "x"}) if kind in ("tls", "mutual") else ({},):
            ran = health(PORT=str(server.port), **told)
            assert (ran.returncode, ran.stdout) == (0, '{"name":"null","ready":true}\n')
        assert not [line for line in server.lines if line["event"] == "unexpected"]


def health(**environment: str) -> "subprocess.CompletedProcess[str]":
    words = command(program=("-IS", str(ROOT / CHECK)))
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_health_check_fails_where_nothing_answers_or_is_not_ready(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ran = health(PORT=str(probe.getsockname()[1]))
        assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "[Errno 111] Connection refused\n")
    slow = null_bundle(tmp_path / "null.bundle", delay_ms=2000).folder
    with serving(slow, until="listening") as server:
        ran = health(PORT=str(server.port))
        assert ran.returncode == 1
        assert json.loads(ran.stderr)["ready"] is False


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_this_is_what_the_image_runs(name: str) -> None:
    assert f'CMD ["python3", "-IS", "/app/{CHECK}"]' in (ROOT / "deploy/images" / name).read_text()
