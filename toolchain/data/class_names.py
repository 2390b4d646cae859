"""The model's labels and the data's classes made one order: the model's, by name.

A model's outputs are numbers. What number i means, the training knew, and model.labels says; the data's classes are
numbered as they are sorted. Where the two differ in order, a build that compares numbers would certify a model that
gives every answer another's name. Knows arrays and names; whether the order that model.labels claims is the one that
the outputs really have, accuracy/label_order.py finds out.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np

from toolchain.data.dataset import DataSet, Labels, Split
from toolchain.errors import RecipeError
from toolchain.records.output import fold_label

logger = logging.getLogger(__name__)

MAX_NAMED = 6
NUMBERED = re.compile(r"(\d+)[-_. ]*(.*)")


def rename_classes(data: DataSet, names: Mapping[str, str], place: str) -> DataSet:
    """The data with its classes called what [data.names] says. RecipeError for a class that the data has not, and
    where two would have one name."""
    if unknown := [name for name in names if name not in data.classes]:
        raise RecipeError(
            f"{place}: [data.names]: the data has no class {unknown[0]!r}; it has {_list_names(data.classes)}"
        )
    classes = tuple(names.get(name, name) for name in data.classes)
    if twice := next((name for name in classes if classes.count(name) > 1), None):
        raise RecipeError(f"{place}: [data.names]: two classes would be {twice!r}; expected another name for each")
    if classes == data.classes:
        return data
    return replace(data, classes=classes, sha256=_derive_digest(data, classes))


def align_classes(data: DataSet, labels: Sequence[str], place: str) -> DataSet:
    """The data with its classes in the order of `labels`, the model's. RecipeError where neither their names nor
    numbers say which class is which label. Another number of classes than labels is left to whoever loads the model."""
    wanted = tuple(labels)
    if wanted == data.classes or len(wanted) != len(data.classes):
        return data
    order = _match_names(data.classes, wanted) or _match_numbers(data.classes, wanted, place)
    if order is None:
        raise _mapping_needed(data.classes, wanted, place)
    if order != list(range(len(wanted))):
        moved = [at for at, number in enumerate(order) if number != at]
        shown = ", ".join(f"output {at} is {wanted[at]}" for at in moved[:MAX_NAMED])
        more = f" and {len(moved) - MAX_NAMED} more" if len(moved) > MAX_NAMED else ""
        logger.info(
            f"labels: model.labels has the classes in another order than the data, and is what counts: {shown}{more}"
        )
    return _reorder(data, np.array(order, np.int64), wanted)


def _match_names(classes: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """The label of each class, by the same name, however it is written; None where that is not one to one."""
    for fold in (str, fold_label):
        numbers = {fold(label): number for number, label in enumerate(labels)}
        order = [numbers.get(fold(name), -1) for name in classes]
        if sorted(order) == list(range(len(labels))):
            return order
    return None


def _match_numbers(classes: Sequence[str], labels: Sequence[str], place: str) -> list[int] | None:
    """The label of each class that is a number, or begins with one (0-cat), whatever that is sorted as; None where
    these do not count the labels, from 0 or from 1. RecipeError: the rest of the name is another label's."""
    found = [NUMBERED.fullmatch(name) for name in classes]
    numbers = [int(match[1]) if match else -1 for match in found]
    first = min(numbers)
    if first not in (0, 1) or sorted(numbers) != list(range(first, first + len(labels))):
        return None
    order = [number - first for number in numbers]
    by_name = _match_names([match[2] if match else "" for match in found], labels)
    if by_name and by_name != order:
        at = next(at for at, number in enumerate(order) if by_name[at] != number)
        raise RecipeError(
            f"{place}: the class {classes[at]!r} has another number in model.labels, where {order[at]} is "
            f"{labels[order[at]]!r}, counted from 0; rename the folders, or write the labels in their order"
        )
    return order


def _reorder(data: DataSet, order: Labels, classes: tuple[str, ...]) -> DataSet:
    """order: the new number of each class."""
    splits = {name: replace(split, labels=_renumber(split, order)) for name, split in data.splits.items()}
    if np.array_equal(order, np.arange(len(order))):
        return replace(data, classes=classes, splits=splits)
    digest = _derive_digest(data, order.tolist())
    return replace(data, classes=classes, splits=splits, sha256=digest, renumbered=tuple(order.tolist()))


def _derive_digest(data: DataSet, what: Sequence[object]) -> str:
    """What was kept of a build with the same pixels under other names or numbers is of no use for this one."""
    return sha256(f"{data.sha256} {list(what)}".encode()).hexdigest()


def _renumber(split: Split, order: Labels) -> Labels:
    if split.labels.ndim == 2:
        moved = np.empty_like(split.labels)
        moved[:, order] = split.labels
        return moved
    return order[split.labels]


def _mapping_needed(classes: Sequence[str], labels: Sequence[str], place: str) -> RecipeError:
    strange = [name for name in classes if name not in labels]
    spare = [label for label in labels if label not in classes]
    first = f'{_quote_key(strange[0])} = "{spare[0]}"'
    return RecipeError(
        f"{place}: model.labels names {_list_names(spare)}, the data's classes are called {_list_names(strange)}; "
        f"write which is which under [data.names], as in: {first}"
    )


def _quote_key(name: str) -> str:
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else f'"{name}"'


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
