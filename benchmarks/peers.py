"""What other regression checks would have said of the very rounds that the gate judged.

Each is given the first ten rounds of a gate, and answers whether the candidate is slower; none of them can be unsure.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, ttest_ind

from toolchain.records.gate import BASELINE, CANDIDATE, Gate, Round

ROUNDS = 10
THRESHOLD = 1.05
Values = NDArray[np.float64]
Rule = Callable[[Sequence[Round]], bool]


class Peer(NamedTuple):
    """regressed: share of gates that it calls slower."""

    name: str
    slower: float
    gates: int
    regressed: float


def requests(rounds: Sequence[Round], side: str) -> Values:
    """Every latency, as if requests were independent."""
    return np.array([ms for one in rounds for part in one.latencies_ms[side] for ms in part])


def medians(rounds: Sequence[Round], side: str) -> Values:
    """One value a slice, as asv has one a sample."""
    return np.array([np.median(part) for one in rounds for part in one.latencies_ms[side]])


def threshold(rounds: Sequence[Round]) -> bool:
    """Mean latency 5 % higher: what a script in CI does."""
    return bool(requests(rounds, CANDIDATE).mean() > THRESHOLD * requests(rounds, BASELINE).mean())


def t_test(rounds: Sequence[Round]) -> bool:
    """Welch's, p < 0.05, on all requests."""
    both = requests(rounds, CANDIDATE), requests(rounds, BASELINE)
    return bool(ttest_ind(*both, equal_var=False, alternative="greater").pvalue < 0.05)


def mann_whitney(rounds: Sequence[Round]) -> bool:
    """p < 0.05, on all requests."""
    both = requests(rounds, CANDIDATE), requests(rounds, BASELINE)
    return bool(mannwhitneyu(*both, alternative="greater").pvalue < 0.05)


def asv(rounds: Sequence[Round]) -> bool:
    """asv compare: Mann-Whitney p < 0.002 and a factor of 1.1, on interleaved samples (airspeed velocity 0.6)."""
    mine, theirs = medians(rounds, CANDIDATE), medians(rounds, BASELINE)
    factor = np.median(mine) / np.median(theirs)
    return bool(factor > 1.1 and mannwhitneyu(mine, theirs).pvalue < 0.002)


RULES: Mapping[str, Rule] = {
    "threshold of 5 % on the mean": threshold,
    "t-test on requests": t_test,
    "Mann-Whitney on requests": mann_whitney,
    "asv's rule": asv,
}


def compared(gates: Sequence[Gate]) -> list[Peer]:
    """Ours first, then the others, by slowdown."""
    found = []
    for slower in sorted({one.slower for one in gates}):
        some = [one for one in gates if one.slower == slower and len(one.rounds) >= ROUNDS]
        said = {"edge-toolchain gate": [one.verdict == "regressed" for one in some]}
        said |= {name: [rule(one.rounds[:ROUNDS]) for one in some] for name, rule in RULES.items()}
        found += [Peer(name, slower, len(some), float(np.mean(votes))) for name, votes in said.items()]
    return found
