"""Descriptions of containers as an engine gives them, cut to what is read."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.containers.publishing import (
    PublishedEndpoint,
    grpc_address,
    http_url,
    matches_endpoint,
    parse_endpoint,
    publishes_port,
)
from deploy.containers.secrets import CERT, KEY, TOKENS, read_secret_folder
from tests.deploy.containers.secretfolders import TOKEN, laid
from toolchain.errors import UsageError


def described(ports: dict[str, int], environment: tuple[str, ...] = (), source: Path | None = None) -> dict[str, Any]:
    bindings = {f"{inside}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}] for inside, port in ports.items()}
    mounts = [{"Source": "/var/lib/docker/volumes/state", "Destination": "/state"}]
    mounts += [{"Source": str(source), "Destination": "/secrets"}] if source else []
    return {
        "NetworkSettings": {"Ports": {"8080/tcp": None, "8081/tcp": None, **bindings}},
        "Mounts": mounts,
        "Config": {"Env": ["PATH=/usr/bin", "GRPC_PORT=8081", *environment]},
    }


def test_a_container_with_a_certificate_is_reached_by_https() -> None:
    plain, closed = described({"8080": 8080}), described({"8080": 8443, "8081": 9001}, ("TLS_CERT=/secrets/tls.crt",))
    assert (http_url(plain), grpc_address(plain)) == ("http://127.0.0.1:8080", "")
    assert (http_url(closed), grpc_address(closed)) == ("https://127.0.0.1:8443", "127.0.0.1:9001")
    assert publishes_port(closed, 9001) and not publishes_port(plain, 9001)


def test_a_container_matches_only_with_the_same_ports_and_secrets(tmp_path: Path) -> None:
    secrets = read_secret_folder(laid(tmp_path / "a", TOKENS).folder)
    others = read_secret_folder(laid(tmp_path / "b", TOKENS).folder)
    closed = described({"8080": 8080, "8081": 8081}, ("TOKEN_FILE=/secrets/tokens",), secrets.folder)
    assert matches_endpoint(closed, PublishedEndpoint(8080, 8081, secrets)) and matches_endpoint(
        closed, PublishedEndpoint(0, 0, secrets)
    )
    for other in (
        PublishedEndpoint(8080, 8081),
        PublishedEndpoint(8080, 8081, others),
        PublishedEndpoint(8080, None, secrets),
        PublishedEndpoint(8080, 8082, secrets),
        PublishedEndpoint(8090, 8081, secrets),
    ):
        assert not matches_endpoint(closed, other)
    assert matches_endpoint(described({"8080": 8080}), PublishedEndpoint(8080))
    assert not matches_endpoint(described({"8080": 8080}), PublishedEndpoint(8080, 0))
    assert not matches_endpoint(described({"8080": 8080}), PublishedEndpoint(8080, None, secrets))


def test_the_requested_ports_are_published_and_secrets_mounted(tmp_path: Path) -> None:
    secrets = read_secret_folder(laid(tmp_path).folder)
    both = [("127.0.0.1", 8080), ("::1", 8080)]
    assert PublishedEndpoint(0).ports == {"8080/tcp": [("127.0.0.1", None)]}
    assert PublishedEndpoint(8080, 0).ports in (
        {"8080/tcp": both, "8081/tcp": [("127.0.0.1", None)]},
        {"8080/tcp": both[:1], "8081/tcp": [("127.0.0.1", None)]},  # a machine without IPv6
    )
    assert PublishedEndpoint(8080, 0, is_public=True).ports == {"8080/tcp": 8080, "8081/tcp": None}
    assert (PublishedEndpoint(0).mounts, PublishedEndpoint(0).environment) == ([], {})
    (mount,) = PublishedEndpoint(0, None, secrets).mounts
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == (str(secrets.folder), "/secrets", True)


def test_a_container_that_others_reach_is_not_the_one_that_only_this_machine_should() -> None:
    inside = described({"8080": 8080})
    outside = described({"8080": 8080})
    outside["NetworkSettings"]["Ports"]["8080/tcp"] = [
        {"HostIp": host, "HostPort": "8080"} for host in ("0.0.0.0", "::")
    ]
    assert matches_endpoint(outside, PublishedEndpoint(8080, is_public=True))
    assert not matches_endpoint(outside, PublishedEndpoint(8080))
    assert not matches_endpoint(inside, PublishedEndpoint(8080, is_public=True))


def test_who_reaches_a_server_is_said_in_a_line(tmp_path: Path) -> None:
    tls = read_secret_folder(laid(tmp_path / "tls", CERT, KEY).folder)
    tokens = read_secret_folder(laid(tmp_path / "tokens", TOKENS).folder)
    assert PublishedEndpoint(0).exposure == "only this machine reaches it; for others: --public"
    for secrets in (None, tls):
        assert PublishedEndpoint(0, None, secrets, is_public=True).exposure.startswith(
            "open without tokens on all inter"
        )
    assert (
        PublishedEndpoint(0, None, tokens, is_public=True).exposure
        == "published on all interfaces, closed by --secrets"
    )


def test_an_unauthenticated_request_is_tried_only_where_it_must_be_refused(tmp_path: Path) -> None:
    tls = read_secret_folder(laid(tmp_path / "tls", CERT, KEY).folder)
    tokens = read_secret_folder(laid(tmp_path / "tokens", TOKENS).folder)
    assert PublishedEndpoint(0).unauthenticated is None and PublishedEndpoint(0, None, tls).unauthenticated is None
    stranger = PublishedEndpoint(0, None, tokens).unauthenticated
    assert stranger is not None and stranger.headers() == {}


def test_without_a_client_certificate_no_request_is_sent_to_a_server_that_requires_one(tmp_path: Path) -> None:
    found = laid(tmp_path)
    secrets = read_secret_folder(found.folder)
    assert not PublishedEndpoint(0, None, secrets).is_authorized
    assert PublishedEndpoint(0, None, secrets, found.client.cert, found.client.key).is_authorized


def test_the_curl_command_reads_the_token_from_its_file(tmp_path: Path) -> None:
    flags = PublishedEndpoint(0, None, read_secret_folder(laid(tmp_path).folder)).curl_flags
    assert flags[:2] == ["--insecure", "--cert FILE --key FILE"]
    assert TOKEN not in " ".join(flags)
    ran = subprocess.run(["sh", "-c", f"printf %s {flags[2]}"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"-HAuthorization: Bearer {TOKEN}"


def test_flags_that_cannot_go_together_are_refused(tmp_path: Path) -> None:
    one, tokens = laid(tmp_path / "all"), laid(tmp_path / "tokens", TOKENS).folder
    cert, key = one.client.cert, one.client.key
    for made, message in (
        (lambda: parse_endpoint(8080, 8080, None, None, None), "--grpc-port 8080: same as --port; choose another"),
        (lambda: parse_endpoint(8080, 70000, None, None, None), "--grpc-port 70000: expected 0 to 65535"),
        (lambda: parse_endpoint(-1, None, None, None, None), "--port -1: expected 0 to 65535"),
        (
            lambda: parse_endpoint(0, None, tokens, cert, key),
            "--cert, --key: used only when --secrets has a client-ca.crt",
        ),
        (lambda: parse_endpoint(0, None, one.folder, cert, None), "--cert and --key go together; give both"),
        (lambda: parse_endpoint(0, None, one.folder, cert, one.ours.root), f"--cert {cert}, --key {one.ours.root}: no"),
    ):
        with pytest.raises(UsageError) as caught:
            made()
        assert str(caught.value).startswith(message)
    assert parse_endpoint(0, 0, one.folder, cert, key).credentials.headers() == {"Authorization": f"Bearer {TOKEN}"}
