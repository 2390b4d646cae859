"""Which sample belongs to which part, decided once and for ever.

Knows nothing of pixels or files: counts go in, index tuples come out. The order is that of sha256("<seed>:<index>"),
so that it depends on no library's random stream and can be recomputed in any language.
"""

from hashlib import sha256


def shuffled(count: int, seed: int) -> list[int]:
    """The indices 0..count-1 in an order that only `seed` decides."""
    return sorted(range(count), key=lambda index: sha256(f"{seed}:{index}".encode()).digest())
