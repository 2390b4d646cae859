"""What the rows of an overload say."""

from collections import Counter

from benchmarks.soak.overload import Load, rows


def holding(statuses: dict[str, int], latencies_s: list[float], alive: bool = True, faults: int = 0) -> list[bool]:
    load = Load(0)
    load.statuses, load.latencies_s = Counter(statuses), latencies_s
    return [one.holds for one in rows(load, [70.0] * 20, alive, faults, "")]


def test_requests_that_are_shed_at_once_or_answered_in_time_pass() -> None:
    assert holding({"200": 100, "503": 190, "504": 10}, [0.1] * 100) == [True] * 5


def test_a_request_without_an_answer_fails() -> None:
    assert holding({"200": 100, "503": 199, "lost (OSError)": 1}, [0.1] * 100) == [False, True, True, True, True]


def test_answers_slower_than_twice_the_goal_fail() -> None:
    assert holding({"200": 100, "503": 200}, [0.1] * 97 + [0.3] * 3)[1] is False
    assert holding({"503": 300}, [])[1:3] == [False, False]


def test_a_server_that_died_or_logged_faults_fails() -> None:
    for alive, faults in ((False, 0), (True, 1)):
        assert holding({"200": 100, "503": 200}, [0.1] * 100, alive, faults)[4] is False
