"""A way to reach a server: address, request bytes, and how to decode the reply; checks that the reply is right."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.serving.load import Ask, Target
from benchmarks.serving.models import jpeg, pictures
from benchmarks.serving.player import Player
from benchmarks.serving.slices import Slice
from deploy.runtime.preprocessing import decode_and_fit
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Array

# Relative to the largest logit: the same artifact, compiled differently; JPEG decoders differ slightly
CLOSE = {"raw": 1e-3, "jpeg": 0.1}


class Question(NamedTuple):
    """The content of requests: an image as pixels, uint8 [1, H, W, 3], and another as a JPEG file with its decoded
    pixels."""

    raw: Array
    jpeg: bytes
    decoded: Array


class Way(NamedTuple):
    """pid: the server's first process. read: a reply's body -> logits. picture: which of Question's images is sent."""

    server: str
    transport: str
    pid: int
    target: Target
    read: Callable[[bytes], Array]
    picture: str = "raw"

    def __str__(self) -> str:
        return f"{self.server}, {self.transport}"


def question_for(bundle: Bundle, folder: Path) -> Question:
    shape = bundle.manifest.preprocessing
    content = jpeg(shape, folder / "picture.jpeg")
    return Question(pictures(shape, 1), content, decode_and_fit(content, shape)[None])


def written(folder: Path, name: str, *requests: bytes) -> tuple[str, ...]:
    """Write the request files for Target.requests."""
    paths = [folder / f"{name}-{number}.request" for number in range(len(requests))]
    for path, content in zip(paths, requests, strict=True):
        path.write_bytes(content)
    return tuple(map(str, paths))


def check(way: Way, load: Player, expected: Array) -> None:
    """RuntimeError when the server's answer differs from the bare engine's."""
    answer = way.read(load.ask(Ask(way.target), Slice).reply).reshape(-1)
    if answer.shape != expected.shape:
        raise RuntimeError(f"{way}: {answer.size} logits, the bare engine has {expected.size}")
    off = float(np.abs(answer - expected).max() / np.abs(expected).max())
    if answer.argmax() != expected.argmax() or off > CLOSE[way.picture]:
        raise RuntimeError(f"{way}: class {answer.argmax()}, {off:.2g} off; the bare engine says {expected.argmax()}")
