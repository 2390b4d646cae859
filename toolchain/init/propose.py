"""From MODEL and --data to a recipe on the disk: find, load, try, plan, write.

Everything that can be refused is refused before anything is tried; nothing is overwritten.
"""

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from toolchain.compress.quantization.restore import rebuild_qat_layers
from toolchain.data.originals import refit
from toolchain.errors import ModelError, RecipeError, UsageError
from toolchain.init.images import InitImages, read_images
from toolchain.init.input_search import InputChoice, describe_size, measure_known, search_input
from toolchain.init.model_source import InitModel, find_model
from toolchain.init.network_file import FUNCTION
from toolchain.init.questions import Asker
from toolchain.init.recipe_text import SCHEMA_FILE, RecipeDraft, write_recipe
from toolchain.init.sizes import official_input, size_options
from toolchain.init.training_plan import StepProposal, propose_steps
from toolchain.models import LoadedModel, load_model
from toolchain.models.check import class_count
from toolchain.recipe import DataSpec, ModelSpec, read_recipe
from toolchain.records.storage import check_output_path
from toolchain.records.tensors import Preprocessing
from toolchain.schemas.json_schema import recipe_schema

USUAL_LOSS = 0.5  # points of top-1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitRequest:
    """As the command line has it."""

    model: str
    data: Path
    out: Path
    weights: Path | None = None
    weights_key: str | None = None


class Proposal(msgspec.Struct, frozen=True):
    """What was written. found: the lines that the recipe's comments have too; not_found: what a person must decide."""

    recipe: str
    written: tuple[str, ...]
    source: str
    input: Preprocessing
    found: tuple[str, ...]
    not_found: tuple[str, ...]

    @property
    def text(self) -> str:
        """The recipe, and what to type next, for a person."""
        doubts = "".join(f"not found out: {doubt}\n" for doubt in self.not_found)
        commands = f"next: toolchain eval {self.recipe}; toolchain deploy {self.recipe}"
        return f"{Path(self.recipe).read_text(encoding='utf-8')}\n{doubts}wrote {', '.join(self.written)}\n{commands}\n"


def propose_recipe(request: InitRequest, asker: Asker) -> Proposal:
    """Write the recipe, its schema for editors and, where no catalogue has the network, a module that builds it."""
    _check_free(request.out)
    model = find_model(request.model, request.weights, request.weights_key)
    network_place = request.out.parent / model.spec.source.partition(":")[0] if model.network else None
    if network_place is not None:
        _check_free(network_place)
    logger.info(f"model: {model.what}")
    images = read_images(request.data)
    logger.info(f"data: {_describe_data(images)}")
    with TemporaryDirectory() as folder:
        if model.network is not None:
            temporary = Path(folder) / "network.py"
            temporary.write_text(model.network)
            typed = msgspec.structs.replace(model.spec, source=f"{temporary}:{FUNCTION}")
        else:
            typed = model.spec
        loaded, sizes = _load(replace(model, spec=typed), images)
        _confirm_head(loaded, images, model, asker)
        choice = _choose_input(model, loaded, images, sizes, asker)
        data = refit(images.data, choice.preprocessing)
        steps = propose_steps(loaded, data, choice.preprocessing, model.is_trained)
    draft = _draft(request, model, images, choice, steps)
    return _write(request, model, draft, network_place)


def _load(model: InitModel, images: InitImages) -> tuple[LoadedModel, list[Preprocessing]]:
    """The model, and the sizes that it takes. ModelError of the likeliest size where it takes none."""
    options, first, fitting = size_options(model, images), None, list[Preprocessing]()
    loaded: LoadedModel | None = None
    for size in options:
        try:
            if loaded is None:
                loaded = load_model(
                    model.spec,
                    size,
                    len(images.data.classes),
                    Path(),
                    allow_other_head=True,
                    rebuild=rebuild_qat_layers,
                )
            elif loaded.module is not None:
                class_count(loaded.module, size, loaded.description)
            if fitting and size.channels != fitting[0].channels:
                break
            fitting.append(size)
        except ModelError as error:
            first = first or error
            if loaded is None and "fails on an input" not in str(error) and "expected" not in str(error):
                raise
    if loaded is None:
        raise first or ModelError(f"{model.what}: takes none of {', '.join(map(describe_size, options))}")
    return loaded, fitting


def _confirm_head(loaded: LoadedModel, images: InitImages, model: InitModel, asker: Asker) -> None:
    """Other classes than the data's mean a new head, which is trained: said, and asked for at a terminal."""
    if loaded.head_fits:
        return
    count, there = loaded.classes, len(images.data.classes)
    if loaded.module is None or model.spec.source.endswith(".pt2"):
        raise UsageError(
            f"{loaded.description}: its outputs are not {there} classes, as the folders of --data are, and a finished "
            "graph gets no new head; name data with its classes, or the network itself: FILE.py:FUNCTION"
        )
    said = f"{loaded.description} was built for other classes than the {there} of {images.spec.path}"
    logger.info(f"head: {said}; a new head is trained on them")
    if not asker.confirm(f"{said}; train a new head?"):
        raise UsageError(f"{images.spec.path}: {there} classes, {count} expected; name the data it was trained on")


def _choose_input(
    model: InitModel, loaded: LoadedModel, images: InitImages, sizes: list[Preprocessing], asker: Asker
) -> InputChoice:
    if model.input is not None:
        return measure_known(loaded, images, model.input, "as toolchain weights recorded it")
    if model.spec.weights == "official" and model.zoo_name:
        known = official_input(model.zoo_name)
        return measure_known(loaded, images, known, "as torchvision records it for these weights")
    if not model.is_trained:
        known = msgspec.structs.replace(sizes[0], mean=(0.5,), std=(0.5,))
        return InputChoice(known, "-1 to 1", ("nothing is trained yet, so any will do: -1 to 1",))
    choice = search_input(loaded, images, sizes)
    for line in choice.lines:
        logger.info(f"input: {line}")
    if choice.doubt:
        logger.warning(f"input: not found out: {choice.doubt}")
        if asker.may_ask and not asker.confirm("write the recipe all the same?"):
            raise UsageError("nothing was written; name the network and its data as they were in training")
    return choice


def _draft(
    request: InitRequest, model: InitModel, images: InitImages, choice: InputChoice, steps: tuple[StepProposal, ...]
) -> RecipeDraft:
    test, base = len(images.data.split("test")), request.out.absolute().parent
    one = 100 / test if test else USUAL_LOSS
    loss = max(USUAL_LOSS, round(one + 0.005, 2))
    points = f"percentage points of top-1 that a release may lose on {test} test images"
    note = points if loss == USUAL_LOSS else f"{points}; one image is {one:.2f}, so {USUAL_LOSS:g} would allow none"
    doubts = (*model.supposed, *filter(None, [choice.doubt]))
    return RecipeDraft(
        name=_recipe_name(model.title),
        model=_relative_spec(model, base),
        input=choice.preprocessing,
        data=DataSpec(images.spec.name, _relative(Path(images.spec.path or ""), base)),
        steps=steps,
        model_notes=(model.what,),
        input_notes=choice.lines,
        data_notes=(_describe_data(images),),
        max_accuracy_loss=loss,
        loss_note=note,
        doubts=doubts,
    )


def _relative_spec(model: InitModel, base: Path) -> ModelSpec:
    spec = model.spec
    file, colon, function = spec.source.rpartition(":")
    if model.network is None and file.endswith(".py"):
        spec = msgspec.structs.replace(spec, source=f"{_relative(Path(file), base)}{colon}{function}")
    elif spec.source.endswith((".onnx", ".pt2")):
        spec = msgspec.structs.replace(spec, source=_relative(Path(spec.source), base))
    if spec.weights not in ("own", "official", "random"):
        spec = msgspec.structs.replace(spec, weights=_relative(Path(spec.weights), base))
    return spec


def _relative(path: Path, base: Path) -> str:
    """As a recipe in `base` names it: an absolute path stays one unless it lies below."""
    whole = path.absolute()
    if path.is_absolute() and not whole.is_relative_to(base):
        return str(path)
    return os.path.relpath(whole, base)


def _recipe_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", title).strip("-._")[:100].lower() or "model"


def _describe_data(images: InitImages) -> str:
    data = images.data
    counts = ", ".join(f"{len(data.split(name))} {name}" for name in ("train", "validate", "certify", "test"))
    small, large = min(images.sizes), max(images.sizes)
    size = f"{small[0]}x{small[1]}" if small == large else f"{small[0]}x{small[1]} to {large[0]}x{large[1]}"
    colours = "grey" if images.channels == 1 else "coloured"
    return f"{len(data.classes)} classes ({_first_names(data.classes)}), {counts}; {colours}, {size} pixels"


def _first_names(names: tuple[str, ...], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _check_free(path: Path) -> None:
    check_output_path(path)
    if path.exists() or path.is_symlink():
        other = path.with_stem(f"{path.stem}-2") if path.suffix == ".toml" else Path("other-folder/recipe.toml")
        raise UsageError(f"{path}: exists, and init overwrites nothing; write elsewhere: --out={other}")


def _write(request: InitRequest, model: InitModel, draft: RecipeDraft, network_place: Path | None) -> Proposal:
    files = {request.out: write_recipe(draft)}
    schema = request.out.parent / SCHEMA_FILE
    if not schema.exists():
        files[schema] = msgspec.json.format(msgspec.json.encode(recipe_schema()), indent=2).decode() + "\n"
    if network_place is not None and model.network is not None:
        files[network_place] = model.network
    written = list[Path]()
    try:
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        read_recipe(request.out)
    except (OSError, RecipeError):
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return Proposal(
        recipe=str(request.out),
        written=tuple(map(str, files)),
        source=draft.model.source,
        input=draft.input,
        found=(*draft.model_notes, *draft.data_notes, *draft.input_notes),
        not_found=draft.doubts,
    )
