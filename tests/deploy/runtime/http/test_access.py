"""Who may ask for what, where: rules as values, no sockets."""

from argparse import Namespace
from pathlib import Path

import pytest

from deploy.runtime.http.access import AccessOptions, AccessRules, PortRole, Secrets, access_from_flags
from deploy.runtime.http.messages import HTTPError
from deploy.runtime.logs import Log
from deploy.runtime.security.tls import TlsFiles
from tests.deploy.runtime.security.authority import Authority
from toolchain.errors import UsageError

TOKEN = b"Bearer a-token-of-ours-to-test-with"
INFER = b"/v2/models/null/infer"
HEALTH = (b"/v2/health/live", b"/v2/health/ready", b"/healthz", b"/healthz?verbose")
NONE = Secrets(AccessOptions(), Log())


@pytest.fixture
def tokens(tmp_path: Path) -> Secrets:
    (tmp_path / "tokens").write_bytes(TOKEN.split()[1])
    return Secrets(AccessOptions(tokens=tmp_path / "tokens"), Log())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    ours = Authority(tmp_path_factory.mktemp("access"))
    server = ours.issue("server")
    return Secrets(AccessOptions(tls=TlsFiles(server.cert, server.key, ours.root)), Log())


def status(rules: AccessRules, target: bytes, method: bytes = b"GET", certified: bool = False, **headers: bytes) -> int:
    """200 for what is let through."""
    try:
        rules.check(
            certified, method, target, {name.replace("_", "-").encode(): text for name, text in headers.items()}
        )
    except HTTPError as refusal:
        return refusal.status
    return 200


def is_page(path: str, headers: object) -> bool:
    return path in ("/", "/page.css")


def no_page(path: str, headers: object) -> bool:
    return False


def test_without_secrets_and_with_one_port_there_is_nothing_to_check() -> None:
    assert not AccessRules(NONE, no_page).has_rules


def test_without_a_token_only_health_is_answered(tokens: Secrets) -> None:
    rules = AccessRules(tokens, no_page)
    assert [status(rules, path) for path in HEALTH] == [200] * 4
    closed = (INFER, b"/", b"/v2", b"/metrics", b"/certificate", b"/nowhere", b"/healthz/", b"/%68ealthz", b"", b"*")
    assert [status(rules, path) for path in closed] == [401] * len(closed)
    assert [status(rules, path, authorization=TOKEN) for path in closed] == [200] * len(closed)
    assert status(rules, INFER, b"POST", authorization=b"Bearer another-token-than-ours") == 401


def test_what_is_open_takes_no_body(tokens: Secrets) -> None:
    rules = AccessRules(tokens, no_page)
    assert status(rules, b"/healthz", b"HEAD", content_length=b"0") == 200
    assert status(rules, b"/healthz", b"POST") == 401
    assert status(rules, b"/healthz", content_length=b"5") == 401
    assert status(rules, b"/healthz", transfer_encoding=b"chunked") == 401


def test_a_refusal_says_what_to_send(tokens: Secrets) -> None:
    with pytest.raises(HTTPError, match="Authorization: Bearer TOKEN") as caught:
        AccessRules(tokens, no_page).check(False, b"POST", INFER, {})
    assert caught.value.headers == (("WWW-Authenticate", "Bearer"),)
    assert caught.value.reason == "unauthorized"


def test_the_page_is_open_without_a_token_but_not_without_a_certificate(tokens: Secrets, certificates: Secrets) -> None:
    assert [status(AccessRules(tokens, is_page), path) for path in (b"/", b"/page.css", b"/v2")] == [200, 200, 401]
    assert status(AccessRules(tokens, is_page), b"/", b"POST") == 401
    assert status(AccessRules(certificates, is_page), b"/") == 403


def test_without_a_certificate_only_health_is_answered(certificates: Secrets) -> None:
    rules = AccessRules(certificates, no_page)
    assert rules.has_rules
    assert [status(rules, path) for path in HEALTH] == [200] * 4
    assert [status(rules, path) for path in (INFER, b"/metrics", b"/")] == [403] * 3
    assert [status(rules, path, certified=True) for path in (INFER, b"/metrics", b"/")] == [200] * 3


CONTROL = (b"/metrics", b"/metrics/", b"/%6detrics", b"/%6Detrics%2f?x", b"/v2/systemsharedmemory/region/a/register")
REST = (INFER, b"/v2", b"/", b"/certificate", b"/metricsx", b"/v2/models/null")


@pytest.mark.parametrize(("place", "control", "rest"), [("all", 200, 200), ("main", 404, 200), ("admin", 200, 404)])
def test_with_an_admin_port_control_is_only_there(place: PortRole, control: int, rest: int) -> None:
    rules = AccessRules(NONE, no_page, place)
    assert rules.has_rules is (place != "all")
    assert [status(rules, path) for path in CONTROL] == [control] * len(CONTROL)
    assert [status(rules, path, b"POST") for path in REST] == [rest] * len(REST)
    assert [status(rules, path) for path in HEALTH] == [200] * 4


def test_the_other_port_is_named() -> None:
    main, admin = AccessRules(NONE, no_page, "main"), AccessRules(NONE, no_page, "admin")
    main.other_port, admin.other_port = 9090, 8080
    with pytest.raises(HTTPError, match=r"^/metrics is answered on the admin port, 9090$"):
        main.check(False, b"GET", b"/metrics", {})
    with pytest.raises(
        HTTPError, match=r"^only health, metrics and control are served here; everything else is on port 8080$"
    ):
        admin.check(False, b"POST", INFER, {})


def test_on_the_admin_port_a_token_is_needed_too(tokens: Secrets) -> None:
    assert status(AccessRules(tokens, no_page, "admin"), b"/metrics") == 401
    assert status(AccessRules(tokens, no_page, "admin"), b"/metrics", authorization=TOKEN) == 200


FLAGS = {"tls_cert": "", "tls_key": "", "tls_client_ca": "", "token_file": "", "admin_port": None}


def asked(**flags: object) -> AccessOptions:
    return access_from_flags(Namespace(**{**FLAGS, "admin_host": "0.0.0.0", "port": 8080, **flags}))


def test_flags_become_access() -> None:
    assert asked() == AccessOptions()
    found = asked(tls_cert="c", tls_key="k", tls_client_ca="a", token_file="t", admin_port=9090)
    assert found == AccessOptions(TlsFiles(Path("c"), Path("k"), Path("a")), Path("t"), "0.0.0.0", 9090)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tls_cert": "c"}, "--tls-key is missing; TLS needs both --tls-cert and --tls-key"),
        ({"tls_key": "k"}, "--tls-cert is missing; TLS needs both --tls-cert and --tls-key"),
        ({"tls_client_ca": "a"}, "--tls-cert is missing; TLS needs both --tls-cert and --tls-key"),
        ({"admin_port": 70000}, "--admin-port 70000: expected 0 to 65535"),
        ({"admin_port": 8080}, "--admin-port 8080: --port is the same; choose another, or leave out --admin-port"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked(**flags)
    assert str(caught.value) == message
