"""A process never uses up its quota of a period, and uses nearly all of it."""

from bisect import bisect_left

from deploy.runtime.scheduling.quota_throttle import PERIOD_S, QuotaThrottle


class Machine:
    """A clock, and a process whose calls each cost CPU time."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.uses: list[tuple[float, float]] = []

    def work(self, seconds: float) -> None:
        self.uses.append((self.now, seconds))
        self.now += seconds
        self.used += seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def most_in_a_period(self) -> float:
        """Of the periods that begin with a call: none overlaps another, so those before it are over."""
        begins = [begin for begin, _ in self.uses]
        return max(
            sum(
                min(begin + cost, start + PERIOD_S) - begin
                for begin, cost in self.uses[number : bisect_left(begins, start + PERIOD_S)]
            )
            for number, start in enumerate(begins)
        )


def paced(quota: float | None, call_s: float, calls: int) -> Machine:
    machine = Machine()
    pacer = QuotaThrottle(quota, lambda: machine.now, lambda: machine.used, machine.sleep)
    for _ in range(calls):
        pacer.wait()
        machine.work(call_s)
    return machine


def test_no_window_of_a_period_holds_more_than_the_quota() -> None:
    for call_s in (0.0005, 0.002, 0.004):
        machine = paced(0.5, call_s, 2000)
        assert machine.most_in_a_period() <= 0.5 * PERIOD_S + 1e-9
        assert machine.used / machine.now > 0.8 * 0.5


def test_without_a_quota_nothing_waits() -> None:
    machine = paced(None, 0.001, 100)
    assert machine.now == machine.used


def test_what_was_not_used_is_not_saved_up() -> None:
    machine = Machine()
    pacer = QuotaThrottle(0.5, lambda: machine.now, lambda: machine.used, machine.sleep)
    machine.now = 100.0
    for _ in range(200):
        pacer.wait()
        machine.work(0.001)
    assert machine.most_in_a_period() <= 0.5 * PERIOD_S + 1e-9


def test_no_more_calls_are_made_at_once_than_the_quota_has_cores_for() -> None:
    assert [QuotaThrottle(quota).max_concurrent(3) for quota in (None, 0.5, 1.0, 1.5, 4.0)] == [3, 1, 1, 2, 3]
