"""Which network a checkpoint's tensors are those of: torchvision's, our CIFAR networks', and timm's where it is
installed. Candidates of about as many parameters are built without their weights and compared by names and shapes.

Knows the catalogues; what a difference means is fit.py's.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models

from toolchain.errors import ModelError
from toolchain.init.fit import BUILT_CLASSES, Fit, fit_network
from toolchain.init.shapes import Shapes, build_skeleton, shapes_of
from toolchain.models.checkpoints import select_weights
from toolchain.models.cifar import NETWORKS, cifar_network
from toolchain.models.torchvision import random_network
from toolchain.progress import track

NEAREST = 24  # candidates by their number of parameters: a head of other width moves it
NAMED = 3
TIMM_NAMES = 24  # of timm's, which are more than a thousand, those whose names the checkpoint or its file mentions


@dataclass(frozen=True)
class NetworkCandidate:
    """source: as a recipe names it, or `timm:NAME`. parameters: how many it has, where that is recorded."""

    source: str
    build: Callable[[], nn.Module]
    parameters: int | None = None


@dataclass(frozen=True)
class Recognized:
    """source: as a recipe names it, or `timm:NAME`; note: what was unwrapped, stripped and left out of the file."""

    source: str
    fit: Fit
    note: str


def recognize(content: Any, path: Path, key: str | None = None) -> Recognized:
    """The network that `content`, read from `path`, holds the weights of. key: of several sets of weights, which.
    ModelError names those that come close where none fits."""
    sizes = _parameter_counts(content)
    candidates = _sort_by_size([*_zoo_candidates(), *_timm_candidates(content, path)], sizes)
    near: list[tuple[float, str]] = []
    for candidate in track(candidates, f"{path.name}: which network", len(candidates)):
        skeleton = build_skeleton(candidate.build)
        wanted = skeleton.state_dict().keys()
        state, notes = select_weights(content, wanted, path, key)
        held = shapes_of(state)
        if fit := fit_network(held, skeleton):
            return Recognized(candidate.source, fit, "; ".join(notes))
        near.append((_likeness(held, shapes_of(skeleton.state_dict())), candidate.source))
    raise ModelError(_describe_near(path, sorted(near, reverse=True)))


def _zoo_candidates() -> Iterator[NetworkCandidate]:
    for name in models.list_models(module=models):
        recorded = models.get_model_weights(name)["DEFAULT"].meta["num_params"]
        yield NetworkCandidate(f"torchvision:{name}", partial(random_network, name, BUILT_CLASSES, {}), recorded)
    for name in NETWORKS:
        yield NetworkCandidate(f"cifar:{name}", partial(cifar_network, name, BUILT_CLASSES))


def _timm_candidates(content: Any, path: Path) -> Iterator[NetworkCandidate]:
    """Those that the file's own words name, as timm's training script writes them (`arch`, or its file's name)."""
    if find_spec("timm") is None:
        return
    timm = import_module("timm")  # not ours to require

    words = [content.get("arch"), content.get("model_name")] if isinstance(content, dict) else []
    text = " ".join([path.stem, *(word for word in words if isinstance(word, str))]).lower()
    squeezed = re.sub(r"[^a-z0-9]", "", text)
    named = [name for name in timm.list_models() if re.sub(r"[^a-z0-9]", "", name.lower()) in squeezed]
    for name in sorted(named, key=len, reverse=True)[:TIMM_NAMES]:
        yield NetworkCandidate(
            f"timm:{name}", partial(timm.create_model, name, pretrained=False, num_classes=BUILT_CLASSES)
        )


def _parameter_counts(content: Any) -> tuple[int, ...]:
    """Of every mapping with tensors in it; BatchNorm's statistics are no parameters."""
    counts = []
    if isinstance(content, dict):
        shapes = shapes_of({name: value for name, value in content.items() if isinstance(name, str)})
        weights = [prod(shape) for name, shape in shapes.items() if "running_" not in name]
        counts = [sum(weights)] if weights else []
        for value in content.values():
            counts += _parameter_counts(value)
    return tuple(counts)


def _sort_by_size(candidates: Sequence[NetworkCandidate], sizes: Sequence[int]) -> list[NetworkCandidate]:
    """The nearest first; those of unknown size are few, and small or named by the file: before all others."""
    known = [candidate for candidate in candidates if candidate.parameters is not None]
    known.sort(key=lambda candidate: min((abs((candidate.parameters or 0) - size) for size in sizes), default=0))
    return [*(each for each in candidates if each.parameters is None), *known[:NEAREST]]


def _likeness(held: Shapes, wanted: Shapes) -> float:
    """The share of tensors, of both, that have the same name and shape."""
    return 2 * len(held.items() & wanted.items()) / ((len(held) + len(wanted)) or 1)


def _describe_near(path: Path, near: Sequence[tuple[float, str]]) -> str:
    close = [f"{source} ({share:.0%} of its tensors)" for share, source in near[:NAMED] if share > 0]
    found = f"; nearest: {', '.join(close)}" if close else ", and none has any tensor of the same name and shape"
    timm = "" if find_spec("timm") else ", nor is timm installed to look there (pip install timm)"
    return (
        f"{path}: fits no network of torchvision{found}{timm}; name the function that builds yours: "
        f"toolchain init FILE.py:FUNCTION --weights={path} --data=FOLDER"
    )
