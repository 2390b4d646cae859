"""Names of what a test makes outside its folder: images, containers, volumes. One engine serves several workers at a
time, and perhaps the tests of another checkout."""

import os
from hashlib import sha256
from pathlib import Path

CHECKOUT = sha256(os.fsencode(Path(__file__).parents[1])).hexdigest()[:5]
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, …; "" in a run without workers


def own_name(name: str) -> str:
    """`name` for this worker of this checkout alone; the same in the next run, which removes what a killed one left."""
    return f"{name}-{CHECKOUT}{WORKER.removeprefix('gw')}"


def shared_name(name: str) -> str:
    """`name` for all workers of this checkout."""
    return f"{name}-{CHECKOUT}"
