"""A recipe's [model] -> a network in evaluation mode whose weights are finite and whose answers are logits.

Knows the four kinds of source and what is checked of each; knows nothing of data beyond the number of its classes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from toolchain.errors import ModelError
from toolchain.models.check import check_finite, check_head, class_count
from toolchain.models.checkpoint import dequantize, fill_module, head_class_count, read_state_dict
from toolchain.models.cifar import cifar_network
from toolchain.models.exported_program import load_program
from toolchain.models.onnx_model import graph_class_count
from toolchain.models.structure import QatRebuilder, apply_structure
from toolchain.models.torchvision import official_labels, official_network, random_network
from toolchain.models.user_module import build_user_module
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import Weights, read_weights

NETWORK_SOURCES = "torchvision:NAME, cifar:NAME or file.py:function"
SOURCE_KINDS = "torchvision:NAME, cifar:NAME, file.py:function, file.pt2 or file.onnx"
WEIGHT_KEYWORDS = ("own", "official", "random")  # all other weights are a file, or a name of torchvision's
OFFICIAL_PREFIX = "IMAGENET1K_"


@dataclass(frozen=True)
class LoadedModel:
    """module: float32 [N, C, H, W] normalized in, logits [N, classes] out, on the CPU, in eval mode; None when the
    source is an ONNX file (`onnx`), which enters after export. labels: None when neither the recipe nor the weights
    name them. fits: the head has as many classes as the data. written: what the file of weights says of itself, when
    `toolchain weights` wrote it."""

    module: nn.Module | None
    onnx: Path | None
    description: str
    labels: tuple[str, ...] | None = None
    head_fits: bool = True
    weights_record: Weights | None = None

    def require_module(self) -> nn.Module:
        """The torch network; ModelError when there is only a graph."""
        if self.module is None:
            raise ModelError(f"{self.description}: an ONNX file has no torch module; only quantize works on it")
        return self.module

    def require_graph(self) -> Path:
        """The ONNX file; ModelError when the model is a torch network."""
        if self.onnx is None:
            raise ModelError(f"{self.description}: a torch module, not an ONNX file; export it first")
        return self.onnx


def load_model(
    spec: ModelSpec,
    preprocessing: Preprocessing,
    classes: int,
    base: Path,
    *,
    allow_other_head: bool = False,
    seed: int = 0,
    rebuild: QatRebuilder | None = None,
) -> LoadedModel:
    """The model that `spec` names, relative paths being relative to `base`.

    other_head: the head may have another number of classes than `classes`, because a later step replaces it.
    seed: what random weights are drawn from. rebuild: puts back the layers of quantization-aware training, when a file
    says that it holds some. ModelError when it cannot be loaded or does not fit.
    """
    labels = _read_labels(spec, base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = _load_source(spec, classes, base, allow_other_head, rebuild)
    if loaded.module is not None:
        check_finite(loaded.module.state_dict(), loaded.description)
        found = class_count(loaded.module, preprocessing, loaded.description)
    else:
        found = graph_class_count(loaded.require_graph()) or classes
    check_head(found, classes, loaded.description, spec, allow_other_head)
    final = classes if allow_other_head else found
    if labels is not None and len(labels) != final:
        raise ModelError(f"{spec.labels}: {len(labels)} labels, but there are {final} classes; one a line")
    if labels is None and not allow_other_head:  # a head that is replaced forgets what its classes were called
        labels = loaded.labels
    return replace(loaded, labels=labels, head_fits=found == classes)


def _load_source(
    spec: ModelSpec, classes: int, base: Path, other_head: bool, rebuild: QatRebuilder | None
) -> LoadedModel:
    zoo, _, name = spec.source.partition(":")
    own = spec.source.rpartition(":")[0].endswith(".py")
    if zoo not in ("torchvision", "cifar") and not own:
        return _from_graph(spec, base)
    if spec.weights not in WEIGHT_KEYWORDS and not (zoo == "torchvision" and spec.weights.startswith(OFFICIAL_PREFIX)):
        return _from_checkpoint(spec, classes, base, other_head, rebuild)
    if zoo == "torchvision":
        return _from_zoo(name, spec, classes, base)
    return _from_function(spec, classes, base) if own else _from_cifar(spec, classes, base)


def _from_graph(spec: ModelSpec, base: Path) -> LoadedModel:
    path, kind = base / spec.source, Path(spec.source).suffix
    if kind not in (".pt2", ".onnx"):
        raise ModelError(f"model.source '{spec.source}': not a model source; expected {SOURCE_KINDS}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; model.source expects {SOURCE_KINDS}")
    if spec.weights != "own" or spec.options:
        raise ModelError(
            f"{spec.source}: holds its own weights; take model.weights and model.options out of the recipe"
        )
    if kind == ".onnx":
        return LoadedModel(None, path, f"{path.name} (ONNX)")
    return LoadedModel(load_program(path), None, f"{path.name} (torch.export program)")


def build_network(spec: ModelSpec, classes: int, base: Path) -> nn.Module:
    """The network that a torch source builds, with the weights that torch's current generator or one's own function
    gives it; a zoo's with `classes` classes. ModelError for a source that is a finished graph."""
    zoo, _, name = spec.source.partition(":")
    if zoo == "torchvision":
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
            f"{spec.source}: say which weights: model.weights = "
            '"official", "random", or a .safetensors or weights-only .pt file'
        )
    if weights == "official" or weights.startswith(OFFICIAL_PREFIX):
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
        raise ModelError(f"{source}: no official weights for one's own model; name a .safetensors or .pt file, or own")
    module = build_network(spec, classes, base).eval()
    return LoadedModel(module, None, source if spec.weights == "own" else f"{source} (random weights)")


def _from_checkpoint(
    spec: ModelSpec, classes: int, base: Path, other_head: bool, rebuild: QatRebuilder | None
) -> LoadedModel:
    """The source's network with the weights of a file; a compressed one's layers are narrowed to them first."""
    path, source = base / spec.weights, spec.source
    own = source.rpartition(":")[0].endswith(".py")
    state, notes = read_state_dict(path)
    written = read_weights(path) if path.suffix == ".safetensors" else None
    module = build_network(spec, written.classes if written else classes, base)
    if written is not None:
        state = dequantize(state, path)
        module = _rebuild_qat(
            apply_structure(module, written.structure, state, f"{path}, of {written.source}"), written, rebuild
        )
        notes += tuple(f"after {step.step}" for step in written.steps[-1:])
    elif not own and (held := head_class_count(state, module, classes)) not in (None, classes):
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


def _read_labels(spec: ModelSpec, base: Path) -> tuple[str, ...] | None:
    if spec.labels is None:
        return None
    try:
        text = (base / spec.labels).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"model.labels '{spec.labels}': cannot be read ({error}); a text file, one class a line"
        ) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
