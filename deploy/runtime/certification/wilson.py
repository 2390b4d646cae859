"""The confidence interval of a counted share. Pure."""

from math import sqrt


def wilson(successes: float, trials: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval (low, high) of successes/trials, shares 0..1; `z` 1.96: 95 %.

    E. B. Wilson, JASA 22 (1927); chosen over the normal interval because it stays inside 0..1 and accurate near both
    ends, where accuracies are (Brown, Cai and DasGupta, Statistical Science 16, 2001). successes may be a sum of shares
    (F1), whose variance is at most that of a count: the interval is then wider than it need be. ValueError without
    trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials} is no share")
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
