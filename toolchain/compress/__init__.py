"""The table of compression steps, and a recipe's [[step]] tables parsed into step objects.

Knows step names, options and valid orders; imports a step's module (and with it torch) only when a recipe uses it.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from toolchain.compress.option_names import option_names
from toolchain.compress.step_failure import explain_step
from toolchain.errors import RecipeError

if TYPE_CHECKING:
    from toolchain.compress.step import CompressedModel, Step, StepContext

# A new step: one file, one line here, one call of the contract test in tests/compress/contract.py.
TABLE = {
    "born_again": "toolchain.compress.steps.born_again:BornAgain",
    "distill": "toolchain.compress.steps.distill:Distill",
    "distill_attention": "toolchain.compress.steps.distill_attention:DistillAttention",
    "distill_decoupled": "toolchain.compress.steps.distill_decoupled:DistillDecoupled",
    "distill_hints": "toolchain.compress.steps.distill_hints:DistillHints",
    "distill_mutual": "toolchain.compress.steps.distill_mutual:DistillMutual",
    "distill_relation": "toolchain.compress.steps.distill_relation:DistillRelation",
    "distill_self": "toolchain.compress.steps.distill_self:DistillSelf",
    "finetune": "toolchain.compress.steps.finetune:Finetune",
    "prune_blocks": "toolchain.compress.steps.prune_blocks:PruneBlocks",
    "prune_channels": "toolchain.compress.steps.prune_channels:PruneChannels",
    "qat": "toolchain.compress.steps.qat:Qat",
    "quantize": "toolchain.compress.steps.quantize:Quantize",
    "sparsify": "toolchain.compress.steps.sparsify:Sparsify",
    "sparsify_gradually": "toolchain.compress.steps.sparsify_gradually:SparsifyGradually",
    "quantize_weights": "toolchain.compress.steps.quantize_weights:QuantizeWeights",
}

INVALIDATES_QAT = (
    "prune_blocks",
    "prune_channels",
    "qat",
    "quantize",
    "quantize_weights",
    "sparsify",
    "sparsify_gradually",
)
POST_EXPORT_STEPS = ("quantize", "quantize_weights")  # performed by the backend after export
NamedSteps = Sequence[tuple[str, "Step"]]


def parse_steps(raw: tuple[dict[str, dict[str, Any]], ...], place: str) -> tuple[tuple[str, "Step"], ...]:
    """Parse a recipe's [[step]] tables, in order; RecipeError names place, step and option."""
    return tuple(_parse_step(table, f"{place}: step {number}") for number, table in enumerate(raw, 1))


def check_step_names(raw: tuple[dict[str, dict[str, Any]], ...], place: str) -> None:
    """RecipeError for a step or an option that does not exist; without torch, and so at once."""
    for number, table in enumerate(raw, 1):
        name, options = _name_step(table, f"{place}: step {number}")
        module, _, kind = TABLE[name].partition(":")
        _check_option_names(options, option_names(module, kind), f"{place}: step {number}, {name}")


def check_order(steps: NamedSteps, place: str) -> None:
    """Raise RecipeError for an order that cannot work: POST_EXPORT_STEPS configure the exported graph, so they come
    last."""
    names = [name for name, _ in steps]
    _check_after_qat(steps, place)
    _check_groups_of_four(steps, place)
    first = next((number for number, name in enumerate(names) if name in POST_EXPORT_STEPS), len(names))
    for number, name in enumerate(names[first + 1 :], first + 2):
        if name == "quantize" and name in names[: number - 1]:
            before = names.index(name) + 1
            raise RecipeError(f"{place}: step {number}, quantize: step {before} quantizes already; remove one of them")
        if name not in POST_EXPORT_STEPS:
            raise RecipeError(
                f"{place}: step {number}, {name}: comes after {names[first]} (step {first + 1}), whose result it would "
                f"undo; move {names[first]} to the end"
            )


def _check_after_qat(steps: NamedSteps, place: str) -> None:
    """qat learns a quantization grid for exactly the weights and layers it trained; only training may follow."""
    names = [name for name, _ in steps]
    first = names.index("qat") + 1 if "qat" in names else len(names)
    for number, (name, step) in enumerate(steps[first:], first + 1):
        if name == "qat":
            raise RecipeError(f"{place}: step {number}, qat: step {first} quantizes already; remove one of them")
        anew = getattr(step, "replace_head", False) or getattr(step, "start", "") == "fresh" or hasattr(step, "copies")
        if name in INVALIDATES_QAT or anew:
            cure = f"remove {name}" if name in POST_EXPORT_STEPS else "move it before qat"
            raise RecipeError(
                f"{place}: step {number}, {name}: comes after qat (step {first}), whose learned quantization grid "
                f"it would make meaningless; {cure}"
            )


def _check_groups_of_four(steps: NamedSteps, place: str) -> None:
    """2:4 sparsity groups input channels in their order: removing one channel later shifts every group after it."""
    groups = None
    for number, (name, step) in enumerate(steps, 1):
        if getattr(step, "pattern", "") == "2:4":
            groups = number
        elif name == "prune_channels" and groups is not None:
            raise RecipeError(
                f"{place}: step {number}, {name}: comes after {steps[groups - 1][0]} (step {groups}), whose groups of "
                f"four channels it would shift; move {name} before it"
            )


def check_steps(
    steps: NamedSteps, model: "CompressedModel", context: "StepContext", place: str
) -> "tuple[CompressedModel, ...]":
    """Check before any training everything that can be known: the order, each step's options against the data, and a
    dry run of the whole chain on copies of the model (widths change, weights are not trained).

    Returns `model` and the model after each dry run. RecipeError names place and step.
    """
    check_order(steps, place)
    models = [model]
    for number, (name, step) in enumerate(steps, 1):
        with explain_step(place, number, name):
            step.check(context)
            model = step.dry_run(model, context)
            models.append(model)
    return tuple(models)


def _parse_step(table: dict[str, dict[str, Any]], place: str) -> tuple[str, "Step"]:
    name, options = _name_step(table, place)
    module, _, kind = TABLE[name].partition(":")
    return name, _parse_options(getattr(import_module(module), kind), options, f"{place}, {name}")


def _name_step(table: dict[str, dict[str, Any]], place: str) -> tuple[str, dict[str, Any]]:
    if len(table) != 1:
        names = ", ".join(table) or "nothing"
        raise RecipeError(f"{place}: expected one step in a [[step]] table, found {names}; write a [[step]] for each")
    [(name, options)] = table.items()
    if name not in TABLE:
        near = get_close_matches(name, TABLE, 1)
        guess = f"; did you mean {near[0]}?" if near else "."
        raise RecipeError(f"{place}: no step '{name}'{guess} There are: {', '.join(TABLE)}")
    return name, options


def _check_option_names(options: dict[str, Any], known: Sequence[str], place: str) -> None:
    for option in options:
        if option not in known:
            raise RecipeError(f"{place}: no option '{option}'; it has: {', '.join(known)}")


def _parse_options(kind: type["Step"], options: dict[str, Any], place: str) -> "Step":
    known = [field.name for field in msgspec.structs.fields(kind)]  # type: ignore[arg-type]  # steps are Structs; a Protocol cannot say so
    _check_option_names(options, known, place)
    try:
        return msgspec.convert(options, type=kind)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at ")
        option = where.strip("`").removeprefix("$.")
        raise RecipeError(f"{place}{', ' + option if option else ''}: {reason[0].lower() + reason[1:]}") from error
