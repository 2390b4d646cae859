"""Descriptions of containers as an engine gives them, cut to what is read."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.containers.publishing import Reach, grpc_of, is_reached, listens_on, reach, url_of
from deploy.containers.secrets import CERT, KEY, TOKENS, secret_folder
from tests.deploy.containers.secretfolders import TOKEN, laid
from toolchain.errors import UsageError


def described(ports: dict[str, int], environment: tuple[str, ...] = (), source: Path | None = None) -> dict[str, Any]:
    bindings = {f"{inside}/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}] for inside, port in ports.items()}
    mounts = [{"Source": "/var/lib/docker/volumes/state", "Destination": "/state"}]
    mounts += [{"Source": str(source), "Destination": "/secrets"}] if source else []
    return {
        "NetworkSettings": {"Ports": {"8080/tcp": None, "8081/tcp": None, **bindings}},
        "Mounts": mounts,
        "Config": {"Env": ["PATH=/usr/bin", "GRPC_PORT=8081", *environment]},
    }


def test_a_container_with_a_certificate_is_asked_by_https() -> None:
    plain, closed = described({"8080": 8080}), described({"8080": 8443, "8081": 9001}, ("TLS_CERT=/secrets/tls.crt",))
    assert (url_of(plain), grpc_of(plain)) == ("http://127.0.0.1:8080", "")
    assert (url_of(closed), grpc_of(closed)) == ("https://127.0.0.1:8443", "127.0.0.1:9001")
    assert listens_on(closed, 9001) and not listens_on(plain, 9001)


def test_a_container_is_the_one_that_was_asked_for_only_with_the_same_ports_and_secrets(tmp_path: Path) -> None:
    secrets = secret_folder(laid(tmp_path / "a", TOKENS).folder)
    others = secret_folder(laid(tmp_path / "b", TOKENS).folder)
    closed = described({"8080": 8080, "8081": 8081}, ("TOKEN_FILE=/secrets/tokens",), secrets.folder)
    assert is_reached(closed, Reach(8080, 8081, secrets)) and is_reached(closed, Reach(0, 0, secrets))
    for other in (
        Reach(8080, 8081),
        Reach(8080, 8081, others),
        Reach(8080, None, secrets),
        Reach(8080, 8082, secrets),
        Reach(8090, 8081, secrets),
    ):
        assert not is_reached(closed, other)
    assert is_reached(described({"8080": 8080}), Reach(8080))
    assert not is_reached(described({"8080": 8080}), Reach(8080, 0))
    assert not is_reached(described({"8080": 8080}), Reach(8080, None, secrets))


def test_what_is_published_and_mounted_is_what_was_asked_for(tmp_path: Path) -> None:
    secrets = secret_folder(laid(tmp_path).folder)
    assert Reach(0).ports == {"8080/tcp": None}
    assert Reach(8080, 0).ports == {"8080/tcp": 8080, "8081/tcp": None}
    assert (Reach(0).mounts, Reach(0).environment) == ([], {})
    (mount,) = Reach(0, None, secrets).mounts
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == (str(secrets.folder), "/secrets", True)


def test_strangers_are_tried_only_where_they_are_to_be_turned_away(tmp_path: Path) -> None:
    tls = secret_folder(laid(tmp_path / "tls", CERT, KEY).folder)
    tokens = secret_folder(laid(tmp_path / "tokens", TOKENS).folder)
    assert Reach(0).strangers is None and Reach(0, None, tls).strangers is None
    stranger = Reach(0, None, tokens).strangers
    assert stranger is not None and stranger.headers() == {}


def test_without_a_client_certificate_a_server_that_wants_one_is_not_asked(tmp_path: Path) -> None:
    found = laid(tmp_path)
    secrets = secret_folder(found.folder)
    assert not Reach(0, None, secrets).may_ask
    assert Reach(0, None, secrets, found.client.cert, found.client.key).may_ask


def test_the_line_to_paste_takes_the_token_from_its_file(tmp_path: Path) -> None:
    flags = Reach(0, None, secret_folder(laid(tmp_path).folder)).curl_flags
    assert flags[:2] == ["--insecure", "--cert FILE --key FILE"]
    assert TOKEN not in " ".join(flags)
    ran = subprocess.run(["sh", "-c", f"printf %s {flags[2]}"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"-HAuthorization: Bearer {TOKEN}"


def test_flags_that_cannot_go_together_are_refused(tmp_path: Path) -> None:
    one, tokens = laid(tmp_path / "all"), laid(tmp_path / "tokens", TOKENS).folder
    cert, key = one.client.cert, one.client.key
    for made, message in (
        (lambda: reach(8080, 8080, None, None, None), "--grpc-port 8080: --port is the same; choose another"),
        (lambda: reach(8080, 70000, None, None, None), "--grpc-port 70000: expected 0 to 65535"),
        (lambda: reach(-1, None, None, None, None), "--port -1: expected 0 to 65535"),
        (lambda: reach(0, None, tokens, cert, key), "--cert, --key: shown where --secrets has a client-ca.crt"),
        (lambda: reach(0, None, one.folder, cert, None), "--cert and --key go together; give both"),
        (lambda: reach(0, None, one.folder, cert, one.ours.root), f"--cert {cert}, --key {one.ours.root}: no"),
    ):
        with pytest.raises(UsageError) as caught:
            made()
        assert str(caught.value).startswith(message)
    assert reach(0, 0, one.folder, cert, key).shown.headers() == {"Authorization": f"Bearer {TOKEN}"}
