"""Which sample belongs to which split: a fixed rule that never changes.

Knows nothing of pixels or files: counts go in, indices come out. The order is that of sha256("<seed>:<index>"), so it
depends on no library's random stream and can be recomputed in any language.
"""

from hashlib import sha256

HELD_OUT = 1000  # images for the certificate, and the same number for validation; each at most a tenth of a small set


def shuffle_indices(count: int, seed: int) -> list[int]:
    """The indices 0..count-1 in an order that depends only on `seed`."""
    return sorted(range(count), key=lambda index: sha256(f"{seed}:{index}".encode()).digest())


def split_indices(indices: list[int]) -> dict[str, list[int]]:
    """Shuffled indices of the training images, divided into `certify`, `validate` (shuffled) and `train` (sorted)."""
    each = min(HELD_OUT, len(indices) // 10)
    return {
        "certify": indices[:each],
        "validate": indices[each : 2 * each],
        "train": sorted(indices[2 * each :]),
    }
