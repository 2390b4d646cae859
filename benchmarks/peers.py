"""The verdicts of other regression checks on the rounds that the gate judged.

Each is given the first ten rounds of a gate, and answers whether the candidate is slower; none can be inconclusive.
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
    """regressed: the share of gates in which the rule finds the candidate slower."""

    name: str
    slower: float
    gates: int
    regressed: float


def all_latencies(rounds: Sequence[Round], side: str) -> Values:
    """Every latency, as if requests were independent."""
    return np.array([ms for round_ in rounds for latencies in round_.latencies_ms[side] for ms in latencies])


def slice_medians(rounds: Sequence[Round], side: str) -> Values:
    """One value per slice, like asv's one value per sample."""
    return np.array([np.median(latencies) for round_ in rounds for latencies in round_.latencies_ms[side]])


def threshold(rounds: Sequence[Round]) -> bool:
    """Mean latency 5 % higher, the usual script in CI."""
    return bool(all_latencies(rounds, CANDIDATE).mean() > THRESHOLD * all_latencies(rounds, BASELINE).mean())


def t_test(rounds: Sequence[Round]) -> bool:
    """Welch's, p < 0.05, on all requests."""
    both = all_latencies(rounds, CANDIDATE), all_latencies(rounds, BASELINE)
    return bool(ttest_ind(*both, equal_var=False, alternative="greater").pvalue < 0.05)


def mann_whitney(rounds: Sequence[Round]) -> bool:
    """p < 0.05, on all requests."""
    both = all_latencies(rounds, CANDIDATE), all_latencies(rounds, BASELINE)
    return bool(mannwhitneyu(*both, alternative="greater").pvalue < 0.05)


def asv(rounds: Sequence[Round]) -> bool:
    """asv compare: Mann-Whitney p < 0.002 and a factor of 1.1, on interleaved samples (airspeed velocity 0.6)."""
    mine, theirs = slice_medians(rounds, CANDIDATE), slice_medians(rounds, BASELINE)
    factor = np.median(mine) / np.median(theirs)
    return bool(factor > 1.1 and mannwhitneyu(mine, theirs).pvalue < 0.002)


RULES: Mapping[str, Rule] = {
    "threshold of 5 % on the mean": threshold,
    "t-test on requests": t_test,
    "Mann-Whitney on requests": mann_whitney,
    "asv's rule": asv,
}


def compare_rules(gates: Sequence[Gate]) -> list[Peer]:
    """For each slowdown, this gate first and then the other rules."""
    peers = []
    for slower in sorted({gate.slower for gate in gates}):
        judged = [gate for gate in gates if gate.slower == slower and len(gate.rounds) >= ROUNDS]
        verdicts = {"edge-toolchain gate": [gate.verdict == "regressed" for gate in judged]}
        verdicts |= {name: [rule(gate.rounds[:ROUNDS]) for gate in judged] for name, rule in RULES.items()}
        peers += [Peer(name, slower, len(judged), float(np.mean(votes))) for name, votes in verdicts.items()]
    return peers
