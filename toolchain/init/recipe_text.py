"""A recipe as text, with comments that say how each line was found.

Knows TOML; finds out nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

import msgspec

from toolchain.init.training_plan import StepProposal
from toolchain.recipe import DataSpec, ModelSpec
from toolchain.records.tensors import Preprocessing
from toolchain.transform.lines import input_lines

WIDTH = 110
SCHEMA_FILE = "recipe.schema.json"


@dataclass(frozen=True)
class RecipeDraft:
    """What a recipe is to say. model_notes and the like: comments; doubts: what was not found out."""

    name: str
    model: ModelSpec
    input: Preprocessing
    data: DataSpec
    steps: tuple[StepProposal, ...]
    model_notes: tuple[str, ...]
    input_notes: tuple[str, ...]
    data_notes: tuple[str, ...]
    max_accuracy_loss: float
    loss_note: str
    doubts: tuple[str, ...] = ()


def write_recipe(draft: RecipeDraft) -> str:
    """The whole file. Its first line names the schema for editors."""
    blocks = [
        [f"#:schema ./{SCHEMA_FILE}"],
        [
            *_comment(["Written by `toolchain init`; yours to change. Its keys: docs/reference/recipe.md."]),
            *_comment(f"NOT FOUND OUT: {doubt}" for doubt in draft.doubts),
            f"name = {_quote(draft.name)}",
        ],
        ["[model]", *_comment(draft.model_notes), *_model_lines(draft.model)],
        ["[input]", *_comment(draft.input_notes), *input_lines(draft.input)],
        ["[data]", *_comment(draft.data_notes), *_data_lines(draft.data)],
        *(_step_lines(proposal) for proposal in draft.steps),
        ["[build]", *_comment([draft.loss_note]), f"max_accuracy_loss = {draft.max_accuracy_loss:g}"],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _model_lines(spec: ModelSpec) -> list[str]:
    fields = msgspec.structs.fields(ModelSpec)
    values = [(each.name, getattr(spec, each.name)) for each in fields]
    written = [(name, value) for name, value in values if name == "source" or value not in (None, {}, "own")]
    return [f"{name} = {_toml(value)}" for name, value in written]


def _data_lines(spec: DataSpec) -> list[str]:
    return [f"name = {_quote(spec.name)}", f"path = {_quote(spec.path or '')}"]


def _step_lines(proposal: StepProposal) -> list[str]:
    [(name, options)] = proposal.step.items()
    lines = ["[[step]]", f"{name} = {_toml(options)}"]
    if not proposal.is_active:
        lines = [f"# {line}" for line in lines]
    return [*_comment([proposal.why] if proposal.why else []), *lines]


def _comment(texts: Iterable[str]) -> list[str]:
    return [f"# {line}" for text in texts for line in wrap(text, WIDTH, break_long_words=False)]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quote(value) if isinstance(value, str) else repr(value)


def _quote(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's too."""
    return msgspec.json.encode(text).decode()
