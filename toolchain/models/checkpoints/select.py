"""Which tensors of a checkpoint are the module's weights: found by their names, wherever the trainer put them.

A trainer wraps them (`state_dict`, `model`), wrappers of modules put a prefix before every name (`module.`,
`_orig_mod.`, `model.`), and an averaged copy (EMA) may lie beside the raw weights. Copies nothing.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from toolchain.errors import ModelError
from toolchain.models.checkpoints.fill import StateDict

# Among copies that fit: averaged ones first, since timm, torchvision's references and YOLO evaluate those where they
# write both; then what trainers call the model's weights.
AVERAGED = frozenset(("ema", "swa", "averaged", "average", "avg"))
USUAL_KEYS = ("", "state_dict", "model_state_dict", "model", "net", "module")
MAX_DEPTH = 4
MAX_NAMED = 3
logger = logging.getLogger(__name__)


class FittingWeights(NamedTuple):
    """Tensors whose names are the module's. key: of the mapping that held them, '' for the file itself; prefix: what
    stood before each name; left_out: names of other tensors beside them."""

    key: str
    prefix: str
    tensors: StateDict
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return ".".join(filter(None, (self.key, self.prefix.rstrip("."))))

    @property
    def rank(self) -> int:
        if AVERAGED.intersection(re.split(r"[._]", self.name.lower())):
            return -1
        return USUAL_KEYS.index(self.key) if self.key in USUAL_KEYS else len(USUAL_KEYS)


def select_weights(
    content: Any, wanted: Collection[str], path: Path, key: str | None = None
) -> tuple[StateDict, tuple[str, ...]]:
    """The tensors of `content` under the names in `wanted`, the module's, and notes on what was unwrapped, stripped and
    left out. Where nothing has these names, the likeliest tensors, for fill_module to say what differs.

    key: the recipe's weights_key, which entry or prefix to take. ModelError: there are no tensors, no such key, or
    several that fit and no rule to choose by.
    """
    held = dict(_state_dicts(content, ""))
    if not held:
        raise ModelError(f"{path}: no weights: {_describe(content)}; expected tensors by name: save model.state_dict()")
    fitting = [option for name, state in held.items() for option in _fitting(name, state, wanted)]
    if key is not None:
        return _take_named(key, fitting, held, wanted, path)
    if not fitting:
        chosen = _likeliest(held, wanted)
        return chosen.tensors, _notes(chosen)
    chosen, *others = sorted(fitting, key=lambda option: option.rank)
    if others and others[0].rank == chosen.rank:
        names = ", ".join(f"'{option.name}'" for option in fitting)
        raise ModelError(
            f'{path}: {len(fitting)} sets of weights fit: {names}; choose: [model] weights_key = "{chosen.name}"'
        )
    if others:
        _announce(
            f"{path.name}: takes '{chosen.name}', not {' or '.join(_quote(option) for option in others)}; "
            f"[model] weights_key chooses another"
        )
    return chosen.tensors, _notes(chosen, others)


def _take_named(
    key: str, fitting: Sequence[FittingWeights], held: Mapping[str, StateDict], wanted: Collection[str], path: Path
) -> tuple[StateDict, tuple[str, ...]]:
    named = [option for option in fitting if key in (option.name, option.key, option.prefix, option.prefix.rstrip("."))]
    below = {name: state for name, state in held.items() if name == key or name.startswith(f"{key}.")}
    if not named and not below:
        there = ", ".join(f"'{option.name}'" for option in fitting) or ", ".join(f"'{name}'" for name in held)
        raise ModelError(f"{path}: no '{key}', which model.weights_key names; it has: {there}")
    chosen = named[0] if named else _likeliest(below, wanted)
    return chosen.tensors, _notes(chosen)


def _state_dicts(content: Any, key: str, depth: int = 0) -> Iterator[tuple[str, StateDict]]:
    """Every mapping with tensors in it, outer ones first, by its dotted key."""
    if not isinstance(content, Mapping) or depth > MAX_DEPTH:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield key, tensors
    for name, value in content.items():
        if isinstance(name, str):
            yield from _state_dicts(value, f"{key}.{name}" if key else name, depth + 1)


def _fitting(key: str, state: StateDict, wanted: Collection[str]) -> Iterator[FittingWeights]:
    """`state` without a prefix that stands before all of `wanted`; also where the module alone has one."""
    required = [name for name in wanted if not name.endswith("num_batches_tracked")]
    for own in _shared_prefixes(required):
        names = [name.removeprefix(own) for name in required]
        if not (prefixes := _prefixes_before(names, state)):
            continue
        for prefix in prefixes:
            inner = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
            tensors = {
                own + name.removeprefix(prefix): tensor
                for name, tensor in state.items()
                if name.startswith(prefix) and not name.startswith(inner)
            }
            beside = tuple(name for name in state if not name.startswith(prefix))
            yield FittingWeights(key, prefix, tensors, beside)
        return


def _prefixes_before(names: Sequence[str], state: StateDict) -> tuple[str, ...]:
    """Every prefix before which all of `names` are in `state`; '' where they are in it as they are."""
    if not names:
        return ("",)
    longest = max(names, key=len)
    ends = [name.removesuffix(longest) for name in state if name == longest or name.endswith(f".{longest}")]
    return tuple(prefix for prefix in ends if all(prefix + name in state for name in names))


def _shared_prefixes(names: Collection[str]) -> Iterator[str]:
    """'', then each prefix that all names share, a part longer each time."""
    prefix = ""
    while names:
        yield prefix
        first = next(iter(names)).removeprefix(prefix)
        prefix += first.partition(".")[0] + "."
        if "." not in first or not all(name.startswith(prefix) for name in names):
            return
    yield prefix


def _likeliest(held: Mapping[str, StateDict], wanted: Collection[str]) -> FittingWeights:
    """Where no names are the module's: the weights by the usual key, else the most tensors, without a prefix that all
    names share and the module has not."""
    ranked = [FittingWeights(key, "", state) for key, state in held.items()]
    option = min(ranked, key=lambda option: (option.rank, -len(option.tensors)))
    shared = list(_shared_prefixes(option.tensors))
    prefix = next((prefix for prefix in reversed(shared) if not any(name.startswith(prefix) for name in wanted)), "")
    return option._replace(
        prefix=prefix, tensors={name.removeprefix(prefix): tensor for name, tensor in option.tensors.items()}
    )


def _notes(chosen: FittingWeights, others: Sequence[FittingWeights] = ()) -> tuple[str, ...]:
    notes = []
    if chosen.key:
        beside = f", not {' or '.join(map(_quote, others))}" if others else ""
        notes.append(f"'{chosen.key}' unwrapped{beside}")
    if chosen.prefix:
        notes.append(f"'{chosen.prefix}' stripped")
    if chosen.left_out:
        named = ", ".join(f"'{name}'" for name in chosen.left_out[:MAX_NAMED])
        more = f" and {len(chosen.left_out) - MAX_NAMED} more" if len(chosen.left_out) > MAX_NAMED else ""
        notes.append(f"{named}{more} left out")
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in chosen.tensors.values() if _is_narrow(tensor)}
    return (*notes, *(f"{name} weights" for name in sorted(types)))


def _is_narrow(tensor: Tensor) -> bool:
    """Whether it is of fewer bits than the model is loaded in."""
    return tensor.is_floating_point() and tensor.dtype.itemsize < 4


def _quote(option: FittingWeights) -> str:
    return f"'{option.name}'"


def _describe(content: Any) -> str:
    kind = type(content).__name__
    inside = f" with {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) and content else ""
    return f"found a {kind}{inside}"


@cache
def _announce(line: str) -> None:
    """Once in a process, which loads a model more than once."""
    logger.info(line)
