"""What MODEL on the command line is, and what a recipe's [model] table says of it.

Reads checkpoints, builds no network with weights; knows nothing of images.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from toolchain.errors import ModelError, UsageError
from toolchain.init.architectures import Recognized, recognize
from toolchain.init.network_file import FUNCTION, write_network
from toolchain.models import read_weights_record
from toolchain.models.checkpoints import read_checkpoint
from toolchain.models.torchvision import check_name
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing

KINDS = "a checkpoint (.pth, .pt, .ckpt, .safetensors), a .onnx or .pt2 file, torchvision:NAME, or FILE.py:FUNCTION"
CATALOGUES = ("torchvision", "cifar")


@dataclass(frozen=True)
class InitModel:
    """spec: with paths as typed, from the current folder; what: a sentence on what was found; network: the text of a
    module that is to lie next to the recipe, where `spec.source` names it; zoo_name: torchvision's name; is_trained:
    whether there are trained weights at all; input: what a weights file records; supposed: what was not found out."""

    spec: ModelSpec
    what: str
    title: str
    network: str | None = None
    zoo_name: str | None = None
    channels: int | None = None
    image_size: int | None = None
    is_trained: bool = True
    input: Preprocessing | None = None
    supposed: tuple[str, ...] = ()


def find_model(text: str, weights: Path | None, key: str | None) -> InitModel:
    """text: MODEL; weights, key: --weights and --weights-key. UsageError or ModelError where it is none of KINDS."""
    catalogue, _, name = text.partition(":")
    file, _, function = text.rpartition(":")
    if catalogue in CATALOGUES:
        return _from_catalogue(catalogue, name, weights, key)
    if file.endswith(".py"):
        if not Path(file).is_file() or not function:
            raise UsageError(f"{text}: no such file or function; expected {KINDS}")
        found = "the function's own weights" if weights is None else f"weights of {weights}"
        spec = ModelSpec(text, "own" if weights is None else str(weights), weights_key=key)
        return InitModel(spec, f"your function, {found}", function, is_trained=True)
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"{text}: no such file; expected {KINDS}")
    if weights is not None:
        raise UsageError(f"--weights={weights}: {text} holds its own weights; name the network: FILE.py:FUNCTION")
    if path.suffix in (".onnx", ".pt2"):
        return InitModel(ModelSpec(text), f"a finished graph, {path.name}, with its own weights", path.stem)
    return _from_checkpoint(path, key)


def _from_catalogue(catalogue: str, name: str, weights: Path | None, key: str | None) -> InitModel:
    source = f"{catalogue}:{name}"
    if catalogue == "torchvision":
        check_name(name)
    zoo_name = name if catalogue == "torchvision" else None
    if weights is not None:
        spec = ModelSpec(source, str(weights), weights_key=key)
        return InitModel(spec, f"{source}, weights of {weights}", weights.stem, zoo_name=zoo_name)
    if zoo_name is None:
        return InitModel(ModelSpec(source, "random"), f"{source}, untrained", name, is_trained=False)
    return InitModel(ModelSpec(source, "official"), f"{source} with torchvision's own weights", name, zoo_name=name)


def _from_checkpoint(path: Path, key: str | None) -> InitModel:
    record = read_weights_record(ModelSpec("", str(path)), Path()) if path.suffix == ".safetensors" else None
    if record is not None:
        if not record.source.startswith(tuple(f"{catalogue}:" for catalogue in CATALOGUES)):
            raise UsageError(
                f"{path}: written by toolchain weights, of {record.source}; name that function: "
                f"toolchain init FILE.py:FUNCTION --weights={path} --data=FOLDER"
            )
        what = f"{record.source}, as toolchain weights recorded it"
        spec = ModelSpec(record.source, str(path))
        return InitModel(spec, what, path.name.partition(".")[0], input=record.input)
    try:
        found = recognize(read_checkpoint(path), path, key)
    except ModelError as error:
        if "weights_key" in str(error):
            wanted = str(error).replace('[model] weights_key = "', '--weights-key="')
            raise UsageError(wanted) from error
        raise
    return _from_recognized(found, path, key)


def _from_recognized(found: Recognized, path: Path, key: str | None) -> InitModel:
    fit, title = found.fit, path.name.partition(".")[0]
    catalogue, _, name = found.source.partition(":")
    sized = {} if fit.image_size is None else {"image_size": fit.image_size}
    model = InitModel(
        ModelSpec(found.source, str(path), options=dict(sized), weights_key=key),
        f"by names and shapes {found.source}, {fit.classes} classes{f' ({found.note})' * bool(found.note)}",
        title,
        zoo_name=name if catalogue == "torchvision" else None,
        channels=fit.channels,
        image_size=fit.image_size,
        supposed=fit.supposed,
    )
    if not fit.changes and catalogue != "timm":
        return model
    if catalogue == "cifar" or sized:
        raise ModelError(
            f"{path}: nearly {found.source}, with other layers in {', '.join(change.name for change in fit.changes)}; "
            f"name the function that builds it: toolchain init FILE.py:FUNCTION --weights={path} --data=FOLDER"
        )
    changed = ", ".join(f"{change.name} is {change.code}" for change in fit.changes)
    file = f"{title}_network.py"
    return replace(
        model,
        spec=msgspec.structs.replace(model.spec, source=f"{file}:{FUNCTION}"),
        what=f"{model.what}{f', but {changed}' * bool(changed)}",
        network=write_network(found.source, fit, path.name),
    )
