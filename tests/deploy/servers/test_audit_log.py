"""A chain of signed lines: what is cut, changed, moved or inserted is named by its line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from deploy.images.signatures import public_key
from deploy.servers.audit_log import (
    AuditHead,
    append_entry,
    check_log,
    head_of,
    head_path,
    read_entries,
    recall_head,
    remember_head,
    split_lines,
)
from deploy.servers.inventory import ServerConfig
from deploy.servers.server import AuditEntry, ShipError

Tampering = Callable[[list[bytes]], list[bytes]]
OURS, THEIRS = SigningKey(bytes(32)), SigningKey(bytes(range(32)))
OLD = b'{"at":"then","who":"bob","what":"ship: old","release":"0","outcome":"live"}\n'


def log_of(count: int, before: bytes = b"", key: SigningKey = OURS) -> bytes:
    log = before
    for number in range(count):
        log = append_entry(log, AuditEntry("now", "ada", f"ship: {number}", str(number), "live"), "line-1", key)
    return log


def problems(lines: list[bytes], seen: AuditHead = AuditHead()) -> tuple[str, ...]:  # noqa: B008
    return check_log(b"".join(line + b"\n" for line in lines), {public_key(OURS)}, seen).problems


def test_what_was_appended_is_whole_and_says_who_wrote_it() -> None:
    log = log_of(3)
    found = check_log(log, {public_key(OURS)}, AuditHead())
    assert (found.lines, found.unsigned, found.passed) == (3, 0, True)
    first, second, _ = read_entries(log)
    assert (first.number, first.previous, first.server, first.key) == (1, "", "line-1", public_key(OURS))
    assert second.previous == head_of(split_lines(log)[0] + b"\n").digest


def test_lines_from_before_lines_were_signed_stay_and_are_held_by_the_first_that_is() -> None:
    log = log_of(2, OLD * 2)
    found = check_log(log, {public_key(OURS)}, AuditHead())
    assert (found.lines, found.unsigned, found.problems) == (4, 2, ())
    lines = split_lines(log)
    assert problems([lines[0].replace(b"bob", b"eve"), *lines[1:]]) == (
        "lines before line 3 were changed: their digest differs",
    )
    assert problems(lines[1:]) == ("before line 2, lines 2 to 2 are missing",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: [a[0], a[1].replace(b"live", b"dead"), *a[2:]], ["line 2 was changed after it was signed"]),
        (lambda a: [a[0], a[1][:40], *a[2:]], ["line 2 was changed or cut off: it cannot be read"]),
        (lambda a: [a[0], b" " + a[1], *a[2:]], ["line 2 was changed after it was signed"]),
        (lambda a: [a[0], *a[3:]], ["before line 2, lines 2 to 3 are missing"]),
        (lambda a: a[2:], ["before line 1, lines 1 to 2 are missing"]),
        (lambda a: [*a[:2], OLD.strip(), *a[2:]], ["line 3 was inserted or changed: it is not signed"]),
        (lambda a: [*a[:2], a[0], *a[2:]], ["line 3 was moved or copied: it was written as line 1"]),
        (
            lambda a: [a[0], a[2], a[1], *a[3:]],
            ["before line 2, lines 2 to 2 are missing", "line 3 was moved or copied: it was written as line 2"],
        ),
        (lambda a: [*a[:2], b"", *a[2:]], ["line 3 was changed or cut off: it cannot be read"]),
    ],
    ids=["changed", "half", "spaced", "cut", "cut before", "inserted", "copied", "swapped", "empty"],
)
def test_the_line_that_was_tampered_with_is_named(change: Tampering, told: list[str]) -> None:
    assert list(problems(change(split_lines(log_of(5))))) == told


def test_a_line_of_another_s_key_is_named_until_that_key_is_given() -> None:
    log = log_of(1, log_of(2), THEIRS)
    (problem,) = check_log(log, {public_key(OURS)}, AuditHead()).problems
    assert problem == f"line 3 is signed by {public_key(THEIRS)[:16]}, whose lines are not accepted; if they are: --key"
    assert check_log(log, {public_key(OURS), public_key(THEIRS)}, AuditHead()).passed


def test_lines_that_are_missing_at_the_end_are_noticed_by_who_saw_them() -> None:
    log = log_of(4)
    seen, lines = head_of(log), split_lines(log)
    assert problems(lines[:2]) == ()
    assert problems(lines[:2], seen) == ("lines 3 to 4 are missing, which this machine has seen",)
    shorter = check_log(log_of(2), {public_key(OURS)}, seen, Path("head.json"))
    assert shorter.problems == (
        "lines 3 to 4 are missing, which this machine has seen; if the server was set up anew: rm head.json",
    )
    other = split_lines(log_of(5, key=OURS, before=OLD))
    assert problems(other, seen) == ("lines 1 to 4 are not those that this machine has seen",)
    assert check_log(log[:-1], {public_key(OURS)}, seen).problems == ("line 4 is cut off",)


def test_the_end_that_was_seen_is_kept_by_engine_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path))
    place = head_path(ServerConfig("line-1", "edge-1"), "m")
    assert head_path(ServerConfig("renamed", "edge-1", port=9000), "m") == place
    others = (head_path(ServerConfig("line-1", "edge-1"), "n"), head_path(ServerConfig("line-1", "edge-2"), "m"))
    assert recall_head(place) == AuditHead()
    remember_head(place, AuditHead(2, "ab"))
    assert [recall_head(one) for one in (place, *others)] == [AuditHead(2, "ab"), AuditHead(), AuditHead()]
    place.write_text("{")
    with pytest.raises(ShipError, match="cannot be read"):
        recall_head(place)
