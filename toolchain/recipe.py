"""A recipe: which model, which data, which steps, for a TOML file read into frozen structs.

Knows the shape of a recipe and where its files lie; knows nothing of what a step does (compress/ does).
"""

import re
import tomllib
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from toolchain.errors import RecipeError
from toolchain.records.manifest import Precision
from toolchain.records.output import Activation
from toolchain.records.tensors import Preprocessing
from toolchain.text_files import read_text_file

Number = Annotated[float, msgspec.Meta(ge=0)]
CutShare = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Option = bool | Number | str | tuple[Number, ...]


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """source: `torchvision:NAME`, `cifar:NAME`, `file.py:function`, `file.pt2` or `file.onnx`.

    weights: "official" (torchvision's, by name), "random", a checkpoint file (`.safetensors`, or what torch.save
    wrote), or "own": what the function, program or graph already holds. output: what the outputs say
    (records/output.py); None: what the model itself ends in, else softmax, or sigmoid where the data gives images
    several labels. layout, output_name: of an ONNX file, where it leaves them open. weights_key: which of several sets
    of weights in the file, by its key or prefix.
    """

    source: str
    weights: str = "own"
    labels: str | None = None  # a text file, one class a line; else the data's class names
    options: dict[str, bool | int | float | str] = {}
    layout: Literal["nchw", "nhwc"] | None = None
    output_name: str | None = None
    weights_key: str | None = None
    output: Activation | None = None


class DataSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name: cifar10, svhn, fashion-mnist, imagenet-photos; or folder, csv, npz, idx, one's own data in path. names:
    what model.labels calls a class of the data, where that is another name: [data.names] cat = "Katze"."""

    name: str
    path: str | None = None
    names: dict[str, str] = {}


class CalibrationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Images for calibration from elsewhere than [data], where that has none to spare or there is none: a data set,
    whose labels are never used, or a folder of images without labels (which counts where both are named)."""

    data: DataSpec | None = None
    images: str | None = None


class BuildSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """max_accuracy_loss: points of top-1 (0.3 = 0.3 %) that a candidate may lose against fp32 torch.

    precisions: what is built and measured; None: all that the back end has, int8 when a `quantize` step says how.
    prefer: how to choose among candidates that meet the accuracy threshold. refuse: stop the build, with the reason, at
    a step that does not pay (slower, or below the threshold after the training that follows it); otherwise only report
    it. choose: whether each device serves what is fastest there, or what was fastest where the bundle was built.
    min_accuracy: percent that the fp32 model must have on the test split; None: more than chance.
    """

    precisions: Annotated[tuple[Precision, ...], msgspec.Meta(min_length=1)] | None = None
    max_accuracy_loss: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    threads: Annotated[int, msgspec.Meta(ge=1)] | None = None  # None: what the cgroup quota allows
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    prefer: Literal["latency", "size"] = "latency"
    refuse: bool = False
    choose: Literal["device", "build"] = "device"
    min_accuracy: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None


PositiveNumber = Annotated[float, msgspec.Meta(gt=0)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
OneOrMore = msgspec.Meta(min_length=1)
Bounds = msgspec.Meta(min_length=2, max_length=2)  # lowest and highest


class SearchSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The space of `toolchain search`. None: what fits the model and the data. Of two numbers, the lowest and the
    highest; of words, those to choose from; one alone is not varied.

    epochs: what is trained for the first look at a recipe, and what those that go on are trained further each time.
    keep: one recipe in so many goes on. front: the recipes that are built at the end, at most.
    """

    channel_ratio: Annotated[tuple[CutShare, ...], Bounds] | None = None
    importance: Annotated[tuple[Literal["l1", "l2", "fpgm", "bn_scale", "taylor"], ...], OneOrMore] = ("l2", "taylor")
    round_to: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1)], ...], OneOrMore] = (8, 16)
    residual: Annotated[tuple[bool, ...], OneOrMore] = (True, False)
    blocks: Annotated[tuple[Whole, ...], Bounds] | None = None
    input_scale: Annotated[tuple[Annotated[float, msgspec.Meta(gt=0, le=1)], ...], OneOrMore] | None = None
    quantization: Annotated[tuple[Literal["ptq", "qat"], ...], OneOrMore] = ("ptq", "qat")
    training: Annotated[tuple[Literal["finetune", "distill"], ...], OneOrMore] = ("distill", "finetune")
    lr: Annotated[tuple[PositiveNumber, ...], Bounds] = (0.01, 0.1)
    epochs: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1)], ...], OneOrMore] | None = None
    keep: Annotated[int, msgspec.Meta(ge=2)] = 3
    sampler: Literal["tpe", "nsga2"] = "tpe"
    front: Annotated[int, msgspec.Meta(ge=1)] = 4


class InputSpec(Preprocessing, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[input] as written. transform: `file.py:NAME`, the training's own transform, from which what is not written is
    found; written keys must agree with it. Without it, height and width are needed."""

    height: int = 0
    width: int = 0
    transform: str | None = None

    def __post_init__(self) -> None:
        if self.transform is None:
            super().__post_init__()

    def preprocessing(self) -> Preprocessing:
        """The same without the transform."""
        return Preprocessing(**{field: getattr(self, field) for field in Preprocessing.__struct_fields__})


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe. `step` keeps each step's name and options as written; compress/ makes steps of them. data: None:
    nobody knows the accuracy, and only numerics are compared. target: what one back end alone understands, by its name:
    [target.null] delay_ms = 5.0. search: what `toolchain search` varies; a build takes no notice of it."""

    # it names files and containers
    name: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
    model: ModelSpec
    input: Preprocessing
    data: DataSpec | None = None
    calibration: CalibrationSpec | None = None
    step: tuple[dict[str, dict[str, Any]], ...] = ()
    build: BuildSpec = BuildSpec()
    search: SearchSpec | None = None
    target: dict[str, dict[str, Option]] = {}

    @property
    def transform(self) -> str | None:
        """The transform that `input` is still to be found from; None once it is known."""
        return self.input.transform if isinstance(self.input, InputSpec) else None


class RecipeFile(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe as it is written."""

    input: InputSpec


def read_recipe_text(path: Path) -> str:
    """RecipeError where there is none."""
    try:
        return read_text_file(path, RecipeError)
    except OSError as error:
        raise RecipeError(f"{path}: no recipe here ({error.strerror}); see recipes/ for examples") from error


def read_recipe(path: Path) -> Recipe:
    """The recipe in the file `path`, as parse_recipe() has it."""
    return parse_recipe(read_recipe_text(path), path)


def parse_recipe(text: str, path: Path) -> Recipe:
    """The recipe that `text` says; RecipeError with `path` and place for what does not fit. Where it names a transform,
    `input` is an InputSpec, to be replaced by what job/recipe_input.py finds."""
    try:
        document = tomllib.loads(text)
        _check_size_given(path, document.get("input"))
        recipe: Recipe = msgspec.convert(document, type=RecipeFile)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{path}: {_explain_error(str(error))}") from error
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError; 5000 digits, brackets without end
        raise RecipeError(f"{path}: not TOML: {error}") from error
    _check_normalization(path, recipe.input)
    _check_values(path, document)
    _check_bounds(path, recipe.search)
    if isinstance(recipe.input, InputSpec) and recipe.input.transform is None:
        return msgspec.structs.replace(recipe, input=recipe.input.preprocessing())
    return recipe


def _check_values(path: Path, value: Any, place: str = "") -> None:
    """RecipeError for what TOML can write and nothing here can mean: nan, inf, and control characters."""
    match value:
        case dict():
            for key, member in value.items():
                _check_values(path, member, f"{place}.{key}" if place else key)
        case list():
            for number, member in enumerate(value):
                _check_values(path, member, f"{place}[{number}]")
        case float() if not isfinite(value):
            raise RecipeError(f"{path}: {place} = {value}: expected a finite number")
        case str() if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
            raise RecipeError(f"{path}: {place} = {value!r}: expected text without control characters")


def _check_bounds(path: Path, search: SearchSpec | None) -> None:
    """RecipeError for a highest number below its lowest."""
    for key in ("channel_ratio", "blocks", "lr"):
        bounds = getattr(search, key, None)
        if bounds is not None and bounds[0] > bounds[1]:
            raise RecipeError(
                f"{path}: search.{key} = {list(bounds)}: the lowest number comes first, and there is none between; "
                f"write {key} = {list(reversed(bounds))}"
            )


def _check_size_given(path: Path, table: object) -> None:
    if isinstance(table, dict) and "transform" not in table:
        for key in ("height", "width"):
            if key not in table:
                raise RecipeError(
                    f"{path}: [input] needs `{key}`; add it, or your training's own transform = "
                    '"train.py:eval_transform"; see recipes/ for examples'
                )


def _check_normalization(path: Path, shape: Preprocessing) -> None:
    """RecipeError for a mean or std of bytes where shares are expected: of values from 0 to 1, no mean lies outside of
    them and no std above. Only recipes are checked, so that bundles that were built before still serve."""
    if shape.scale == 1:
        return
    for key, values in (("mean", shape.mean), ("std", shape.std)):
        if not all(0 <= value <= 1 for value in values):
            cure = "see docs/guides/preprocessing.md"
            if min(values) >= 0:
                shares = f"mean = {_as_shares(shape.mean)}, std = {_as_shares(shape.std)}"
                cure = f"divide bytes by 255: {shares}; or, for values that were never divided, scale = 1"
            raise RecipeError(
                f"{path}: input: {key} = {_format_numbers(values)}; expected shares of 255, from 0 to 1; {cure}"
            )


def _as_shares(values: tuple[float, ...]) -> str:
    """Bytes as shares of 255; what is below 1 is a share already, and the default std of 1 is a byte."""
    return _format_numbers(values if max(values) < 1 else tuple(value / 255 for value in values))


def _format_numbers(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _explain_error(error: str) -> str:
    """msgspec's words (Expected `int`, got `str` - at `$.input.height`), place first; for a key, those there are."""
    reason, _, where = error.partition(" - at ")
    place = where.strip("`").removeprefix("$").removeprefix(".")
    named = re.fullmatch(r"Object (?:contains unknown|missing required) field `(.+)`", reason)
    table = f"[{place}]" if place else "a recipe"
    if not named:
        return f"{place}: {reason[0].lower()}{reason[1:]}"
    if "missing" in reason:
        return f"{table} needs `{named[1]}`; add it, see recipes/ for examples"
    known = _keys(place)
    near = get_close_matches(named[1], known, 1)
    return f"{table}: no key `{named[1]}`{f'; did you mean {near[0]}?' if near else '.'} It has: {', '.join(known)}"


def _keys(place: str) -> list[str]:
    """The keys of the table at `place` (`calibration.data`)."""
    kind: Any = RecipeFile
    for key in filter(None, place.split(".")):
        field = next(field for field in msgspec.structs.fields(kind) if field.name == key)
        kind = next((one for one in get_args(field.type) if one is not type(None)), field.type)
    return field_order(kind)


def field_order(kind: type[msgspec.Struct]) -> list[str]:
    """The names of a struct's fields, those that it redefines in their first place."""
    bases = [base for base in reversed(kind.__mro__) if issubclass(base, msgspec.Struct) and base != msgspec.Struct]
    return list(dict.fromkeys(name for base in bases for name in base.__struct_fields__))
