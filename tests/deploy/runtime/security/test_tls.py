"""Files -> TLS: what is refused, in one line, and what is only unwise."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.runtime.security.tls import TlsFiles, expiry, server_context, warnings
from tests.deploy.runtime.security.authority import Authority, openssl
from toolchain.errors import UsageError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def refusal(cert: Path, key: Path, client_ca: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        server_context(TlsFiles(cert, key, client_ca))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_old_versions_and_weak_suites_are_not_spoken(authority: Authority) -> None:
    server = authority.issue("server")
    context = server_context(TlsFiles(server.cert, server.key))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    names = [suite["name"] for suite in context.get_ciphers()]
    assert names
    assert all(name.startswith(("TLS_", "ECDHE-")) and ("GCM" in name or "CHACHA20" in name) for name in names)
    assert context.verify_mode == ssl.CERT_NONE


def test_with_authorities_clients_certificates_are_checked(authority: Authority) -> None:
    server = authority.issue("server")
    context = server_context(TlsFiles(server.cert, server.key, authority.root))
    assert context.verify_mode == ssl.CERT_OPTIONAL
    assert context.cert_store_stats()["x509_ca"] == 1


def test_a_file_that_is_not_there_is_named_with_its_flag(authority: Authority, tmp_path: Path) -> None:
    server, nothing = authority.issue("server"), tmp_path / "nothing.pem"
    words = f"{nothing}: cannot be read (No such file or directory); mount it"
    assert refusal(nothing, server.key).startswith(f"--tls-cert {words}")
    assert refusal(server.cert, nothing).startswith(f"--tls-key {words}")
    assert refusal(server.cert, server.key, nothing).startswith(f"--tls-client-ca {words}")


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    assert refusal(one.cert, other.key) == (
        f"--tls-key {other.key}: not the key of the certificate in {one.cert}; use the key that belongs to it"
    )


def test_what_is_no_pem_is_refused(authority: Authority, tmp_path: Path) -> None:
    server, junk = authority.issue("server"), tmp_path / "junk.pem"
    for text in ("junk", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"):
        junk.write_text(text)
        assert "it contains no certificate in PEM" in refusal(junk, server.key)
        assert "it contains no authority's certificate in PEM" in refusal(server.cert, server.key, junk)
    assert "expected a private key in PEM" in refusal(server.cert, junk)


def test_an_encrypted_key_is_refused_and_no_password_asked_for(authority: Authority, tmp_path: Path) -> None:
    server, locked = authority.issue("server"), tmp_path / "locked.key"
    openssl("pkey", "-in", server.key, "-aes256", "-passout", "pass:secret", "-out", locked)
    assert refusal(server.cert, locked).startswith(
        f"--tls-key {locked}: the key is encrypted; decrypt it: openssl pkey"
    )


@pytest.mark.parametrize("bits", [0, 2048])
def test_when_a_certificate_ends_is_read_from_it(authority: Authority, bits: int) -> None:
    left = expiry(authority.issue(f"server-{bits}", days=40, bits=bits).cert) - datetime.now(UTC)
    assert timedelta(days=39, hours=23) < left <= timedelta(days=40)


def test_an_end_after_2049_is_read_too(authority: Authority) -> None:
    assert expiry(authority.issue("century", days=36500).cert).year > 2100


def test_what_is_unwise_is_told(authority: Authority) -> None:
    good, soon, late = authority.issue("good"), authority.issue("soon", days=5), authority.issue("late", days=-1)
    for issued in (good, soon, late):
        issued.key.chmod(0o600)
    assert warnings(TlsFiles(good.cert, good.key)) == []
    (told,) = warnings(TlsFiles(soon.cert, soon.key))
    assert told.startswith(f"--tls-cert {soon.cert}: expires on {expiry(soon.cert):%Y-%m-%d %H:%M} UTC, in 4 days")
    (told,) = warnings(TlsFiles(late.cert, late.key))
    assert told.startswith(f"--tls-cert {late.cert}: expired on {expiry(late.cert):%Y-%m-%d %H:%M} UTC")
    good.key.chmod(0o644)
    assert warnings(TlsFiles(good.cert, good.key)) == [
        f"--tls-key {good.key}: every user of this machine can read it; chmod o-r {good.key}"
    ]
