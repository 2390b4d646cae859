"""A failure can be sent again, and what a malformed request may be answered with."""

import pytest

from benchmarks.soak.client import Reply
from benchmarks.soak.fuzz import KINDS, case_names, find_flaw, make_case
from benchmarks.soak.growth import growth


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_depends_only_on_its_name(kind: str) -> None:
    chosen = [f"{kind}:1:{number}" for number in range(150)]
    first = {name: make_case(name) for name in chosen}
    assert {name: make_case(name) for name in reversed(chosen)} == first
    assert len(set(first.values())) > 100, "they hardly differ"
    assert make_case(f"{kind}:2:0") != first[f"{kind}:1:0"]


def test_every_kind_of_case_is_generated() -> None:
    chosen = list(case_names(len(KINDS) * 3, 5))
    assert len(set(chosen)) == len(chosen)
    assert {name.partition(":")[0] for name in chosen[: len(KINDS)]} == set(KINDS)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        (Reply("200"), True),
        (Reply("431"), True),
        (Reply("503", b'{"error":"try later"}'), True),
        (Reply("503", b"<html>"), False),
        (Reply("500", b'{"error":"unexpected: KeyError()"}'), False),
        (Reply("none"), False),
        (Reply("closed"), True),
        (Reply("INVALID_ARGUMENT"), True),
        (Reply("UNKNOWN", b"Unexpected <class 'KeyError'>"), False),
        (Reply("INTERNAL"), False),
    ],
)
def test_only_refusals_are_accepted(reply: Reply, right: bool) -> None:
    assert (find_flaw(reply) == "") is right


def test_freed_memory_is_not_growth_but_a_leak_is() -> None:
    assert growth([60, 73, 73, 50, 50, 74, 73, 73, 73, 73]) == 1
    leaks = growth([float(70 + number) for number in range(50)])
    assert leaks is not None and leaks > 1.2
    assert growth([]) is None


def test_a_peak_during_decoding_is_not_growth_but_a_higher_final_level_is() -> None:
    assert growth([71, 72, 72, 70, 71, 71, 69, 69, 69, 77, 78, 71, 70, 70, 70, 69, 69, 71, 68, 83]) == pytest.approx(
        71 / 72
    )
    higher = growth([71, 72, 72, 70, 71, 71, 69, 69, 69, 77, 78, 71, 70, 70, 70, 69, 69, 83, 83, 83])
    assert higher == pytest.approx(83 / 72)
