"""Which sample belongs to which part, decided once and for ever.

Knows nothing of pixels or files: counts go in, index tuples come out. The order is that of sha256("<seed>:<index>"),
so that it depends on no library's random stream and can be recomputed in any language.
"""

from hashlib import sha256

HELD_OUT = 1000  # pictures of the certificate, and as many for validation; at most a tenth of a small set each


def shuffle_indices(count: int, seed: int) -> list[int]:
    """The indices 0..count-1 in an order that only `seed` decides."""
    return sorted(range(count), key=lambda index: sha256(f"{seed}:{index}".encode()).digest())


def split_indices(indices: list[int]) -> dict[str, list[int]]:
    """Shuffled indices of a training part, cut into `certify`, `validate` (in that order) and `train` (sorted)."""
    each = min(HELD_OUT, len(indices) // 10)
    return {
        "certify": indices[:each],
        "validate": indices[each : 2 * each],
        "train": sorted(indices[2 * each :]),
    }
