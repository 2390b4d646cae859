"""Where an attacked server listens, and what an attack is: a function that goes on until its process is ended."""

from collections.abc import Callable
from typing import NamedTuple


class Address(NamedTuple):
    """Ports of 127.0.0.1."""

    http_port: int
    grpc_port: int


Attack = Callable[[Address], None]
