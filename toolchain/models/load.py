"""Turns a recipe's [model] table into a model in evaluation mode with finite weights whose outputs are logits.

Knows the kinds of source and what is checked of each; of the data it knows only the number of classes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from torch import nn

from toolchain.errors import ModelError
from toolchain.models.check import check_finite, check_head, class_count
from toolchain.models.checkpoints import dequantize, fill_module, head_class_count, read_checkpoint, select_weights
from toolchain.models.cifar import cifar_network
from toolchain.models.exported_program import load_program
from toolchain.models.onnx_file.interface import OnnxGraph, open_onnx
from toolchain.models.onnx_file.runner import score_count
from toolchain.models.output_kind import default_outputs, graph_activation, module_activation, resolve_output
from toolchain.models.structure import QatRebuilder, apply_structure
from toolchain.models.user_module import build_user_module
from toolchain.recipe import ModelSpec
from toolchain.recipe_files import NETWORK_SOURCES, SOURCE_KINDS, require_graph_file
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import Weights, read_weights
from toolchain.text_files import read_text_file

WEIGHT_KEYWORDS = ("own", "official", "random")  # any other value is a file, or a name of torchvision's weights
OFFICIAL_PREFIX = "IMAGENET1K_"
SUPPOSED_CLASSES = 1000  # of a built-in network, until its weights tell


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model and what is known about it.

    module: takes normalized float32 [N, C, H, W], returns logits [N, classes]; on the CPU, in evaluation mode; None
    when the source is an ONNX file (`onnx`), which enters the build after export. labels: None when neither the recipe
    nor the weights name them. head_fits: the head tells as many classes apart as the data has. weights_record: the
    record in a weights file that `toolchain weights` wrote. classes: how many it tells apart; output: what its outputs
    say.
    """

    module: nn.Module | None
    onnx: OnnxGraph | None
    description: str
    labels: tuple[str, ...] | None = None
    head_fits: bool = True
    weights_record: Weights | None = None
    classes: int = 0
    output: OutputKind = SOFTMAX

    def require_module(self) -> nn.Module:
        """The torch model; ModelError when there is only an ONNX graph."""
        if self.module is None:
            raise ModelError(f"{self.description}: an ONNX file has no torch module; only quantize works on it")
        return self.module

    def require_graph(self) -> OnnxGraph:
        """The ONNX file; ModelError when the model is a torch module."""
        if self.onnx is None:
            raise ModelError(f"{self.description}: a torch module, not an ONNX file; export it first")
        return self.onnx


def load_model(
    spec: ModelSpec,
    preprocessing: Preprocessing,
    classes: int | None,
    base: Path,
    *,
    allow_other_head: bool = False,
    seed: int = 0,
    rebuild: QatRebuilder | None = None,
    multilabel: bool = False,
) -> LoadedModel:
    """Load the model that `spec` names; relative paths are relative to `base`.

    classes: the data's; None: there is no data, so the model says. allow_other_head: the head may have a class count
    other than `classes`, because a later step replaces it. seed: for random weights. rebuild: restores the layers of
    quantization-aware training when the weights file contains any. multilabel: the data gives an image several of the
    classes. ModelError when the model cannot be loaded or does not fit.
    """
    labels, is_known = read_labels(spec, base), classes is not None
    classes = classes or (len(labels) if labels else SUPPOSED_CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = default_outputs(spec.output, classes, multilabel)
        other = allow_other_head or not is_known
        loaded = _load_source(spec, preprocessing, classes, width, base, other, rebuild)
    if loaded.module is not None:
        check_finite(loaded.module.state_dict(), loaded.description)
        count = class_count(loaded.module, preprocessing, loaded.description)
        inside = module_activation(loaded.module, preprocessing)
    else:
        source = loaded.require_graph()
        count = source.output.classes or score_count(source, preprocessing)
        inside = graph_activation(source.path, source.output.name)
    outputs = default_outputs(spec.output or inside, classes, multilabel) if allow_other_head else count
    output = resolve_output(spec.output, inside, outputs, multilabel, loaded.description)
    if not is_known:
        classes = 2 if output.is_binary(count) else count
    known = msgspec.structs.replace(spec, output=output.activation)
    check_head(count, classes, loaded.description, known, allow_other_head)
    if labels is not None and len(labels) != classes:
        raise ModelError(
            f"{spec.labels}: {len(labels)} labels, but there are {classes} classes; expected one label per line"
        )
    if labels is None and not allow_other_head:  # a replaced head does not keep its class names
        labels = loaded.labels
    return replace(loaded, labels=labels, head_fits=output.fits(count, classes), classes=classes, output=output)


def _load_source(
    spec: ModelSpec,
    preprocessing: Preprocessing,
    classes: int,
    width: int,
    base: Path,
    other_head: bool,
    rebuild: QatRebuilder | None,
) -> LoadedModel:
    """classes: the data's; width: how many outputs a network gets that is built for them."""
    zoo, _, name = spec.source.partition(":")
    own = spec.source.rpartition(":")[0].endswith(".py")
    if zoo not in ("torchvision", "cifar") and not own:
        return _from_graph(spec, preprocessing, base)
    _refuse_graph_keys(spec)
    if spec.weights not in WEIGHT_KEYWORDS and not (zoo == "torchvision" and spec.weights.startswith(OFFICIAL_PREFIX)):
        return _from_checkpoint(spec, classes, width, base, other_head, rebuild)
    if zoo == "torchvision":
        return _from_zoo(name, spec, width, base)
    return _from_function(spec, width, base) if own else _from_cifar(spec, width, base)


def _from_graph(spec: ModelSpec, preprocessing: Preprocessing, base: Path) -> LoadedModel:
    path, kind = base / spec.source, Path(spec.source).suffix
    if kind not in (".pt2", ".onnx"):
        raise ModelError(f"model.source '{spec.source}': not a model source; expected {SOURCE_KINDS}")
    require_graph_file(path)
    if spec.weights != "own" or spec.options:
        raise ModelError(
            f"{spec.source}: contains its own weights; remove model.weights and model.options from the recipe"
        )
    if kind == ".onnx":
        return LoadedModel(None, open_onnx(path, spec, preprocessing), f"{path.name} (ONNX)")
    _refuse_graph_keys(spec)
    return LoadedModel(load_program(path), None, f"{path.name} (torch.export program)")


def _refuse_graph_keys(spec: ModelSpec) -> None:
    key = "layout" if spec.layout is not None else "output_name" if spec.output_name is not None else None
    if key is not None:
        raise ModelError(f"{spec.source}: model.{key} describes an ONNX file, and this is none; remove the key")


def build_network(spec: ModelSpec, classes: int, base: Path) -> nn.Module:
    """The network that a torch source builds: with `classes` classes for a built-in network, weights from torch's
    current random generator or from the user's function. ModelError for a source that is a finished graph."""
    zoo, _, name = spec.source.partition(":")
    if zoo == "torchvision":
        from toolchain.models.torchvision import random_network  # seconds, with all that torchvision imports

        return random_network(name, classes, spec.options)
    if zoo == "cifar":
        return cifar_network(name, classes)
    file, _, function = spec.source.rpartition(":")
    if not file.endswith(".py"):
        raise ModelError(
            f"{spec.source}: a finished graph, not a network that takes weights; expected {NETWORK_SOURCES}"
        )
    return build_user_module(base / file, function, spec.options).to("cpu", torch.float32)


def _from_zoo(name: str, spec: ModelSpec, classes: int, base: Path) -> LoadedModel:
    weights = spec.weights
    if weights == "own":
        raise ModelError(
            f"{spec.source}: name the weights: model.weights = "
            '"official", "random", or a checkpoint file (.safetensors, .pt, .pth, .ckpt)'
        )
    if weights == "official" or weights.startswith(OFFICIAL_PREFIX):
        from toolchain.models.torchvision import official_labels, official_network

        description = f"torchvision:{name} ({weights} weights)"
        return LoadedModel(
            official_network(name, weights, spec.options), None, description, official_labels(name, weights)
        )
    return LoadedModel(build_network(spec, classes, base).eval(), None, f"{spec.source} (random weights)")


def _from_cifar(spec: ModelSpec, classes: int, base: Path) -> LoadedModel:
    if spec.options or spec.weights in ("own", "official"):
        raise ModelError(
            f'{spec.source}: takes no options and has no weights of its own; model.weights = "random", or a '
            ".safetensors or weights-only .pt file"
        )
    return LoadedModel(build_network(spec, classes, base).eval(), None, f"{spec.source} (random weights)")


def _from_function(spec: ModelSpec, classes: int, base: Path) -> LoadedModel:
    source = Path(spec.source).name
    if spec.weights == "official":
        raise ModelError(
            f"{source}: there are no official weights for a user's own model; name a checkpoint file, or use own"
        )
    module = build_network(spec, classes, base).eval()
    return LoadedModel(module, None, source if spec.weights == "own" else f"{source} (random weights)")


def _from_checkpoint(
    spec: ModelSpec, classes: int, width: int, base: Path, other_head: bool, rebuild: QatRebuilder | None
) -> LoadedModel:
    """The source's network with weights from a file; layers of a compressed model are resized to fit them first."""
    path, source = base / spec.weights, spec.source
    own = source.rpartition(":")[0].endswith(".py")
    content = read_checkpoint(path)
    written = read_weights(path) if path.suffix == ".safetensors" else None
    module = build_network(spec, written.classes if written else width, base)
    notes: tuple[str, ...]
    if written is not None:
        state = dequantize(content, path)
        module = _rebuild_qat(
            apply_structure(module, written.structure, state, f"{path}, of {written.source}"), written, rebuild
        )
        notes = tuple(f"after {step.step}" for step in written.steps[-1:])
    else:
        state, notes = select_weights(content, module.state_dict().keys(), path, spec.weights_key)
    if written is None and not own and (held := head_class_count(state, module, width)) not in (None, width):
        check_head(held, classes, spec.weights, spec, other_head)
        module = build_network(spec, held, base)
    named = Path(source).name if own else source
    notes += fill_module(module, state, path, named)
    description = f"{named} ({'; '.join((path.name, *notes))})"
    return LoadedModel(module.eval(), None, description, weights_record=written)


def _rebuild_qat(module: nn.Module, written: Weights, rebuild: QatRebuilder | None) -> nn.Module:
    if (learned := written.structure.learned) is None:
        return module
    if rebuild is None:
        raise ModelError(f"{written.source}: the weights hold quantization-aware layers, which cannot be used here")
    return rebuild(module.eval(), learned, written.input)


def read_labels(spec: ModelSpec, base: Path) -> tuple[str, ...] | None:
    """The lines of the file that model.labels names; None where it names none. ModelError: it cannot be read."""
    if spec.labels is None:
        return None
    try:
        text = read_text_file(base / spec.labels, ModelError)
    except OSError as error:
        raise ModelError(
            f"model.labels '{spec.labels}': cannot be read ({error}); expected a text file with one class per line"
        ) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
