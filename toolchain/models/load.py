"""A recipe's [model] -> a network in evaluation mode whose weights are finite and whose answers are logits.

Knows the four kinds of source and what is checked of each; knows nothing of data beyond the number of its classes.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from toolchain.errors import ModelError
from toolchain.models.check import check_finite, check_head, classes_of
from toolchain.models.checkpoint import fill, head_size, read_state
from toolchain.models.cifar import cifar_net
from toolchain.models.graph import classes_of_graph
from toolchain.models.program import load_program
from toolchain.models.userfile import user_module
from toolchain.models.zoo import labels_of, official, unfilled
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing

KINDS = "torchvision:NAME, cifar:NAME, file.py:function, file.pt2 or file.onnx"


@dataclass(frozen=True)
class LoadedModel:
    """module: float32 [N, C, H, W] normalized in, logits [N, classes] out, on the CPU, in eval mode; None when the
    source is an ONNX file (`onnx`), which enters after export. labels: None when neither the recipe nor the weights
    name them. fits: the head has as many classes as the data."""

    module: nn.Module | None
    onnx: Path | None
    description: str
    labels: tuple[str, ...] | None = None
    fits: bool = True

    def module_or_refusal(self) -> nn.Module:
        """The torch network; ModelError when there is only a graph."""
        if self.module is None:
            raise ModelError(f"{self.description}: an ONNX file has no torch module; only quantize works on it")
        return self.module

    def graph_or_refusal(self) -> Path:
        """The ONNX file; ModelError when the model is a torch network."""
        if self.onnx is None:
            raise ModelError(f"{self.description}: a torch module, not an ONNX file; export it first")
        return self.onnx


def load_model(
    spec: ModelSpec, preprocessing: Preprocessing, classes: int, base: Path, *, other_head: bool = False, seed: int = 0
) -> LoadedModel:
    """The model that `spec` names, relative paths being relative to `base`.

    other_head: the head may have another number of classes than `classes`, because a later step replaces it.
    seed: what random weights are drawn from. ModelError when it cannot be loaded or does not fit.
    """
    labels = _labels(spec, base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = _loaded(spec, classes, base, other_head)
    if loaded.module is not None:
        check_finite(loaded.module.state_dict(), loaded.description)
        found = classes_of(loaded.module, preprocessing, loaded.description)
    else:
        found = classes_of_graph(loaded.graph_or_refusal()) or classes
    check_head(found, classes, loaded.description, spec, other_head)
    final = classes if other_head else found
    if labels is not None and len(labels) != final:
        raise ModelError(f"{spec.labels}: {len(labels)} labels, but there are {final} classes; one a line")
    if labels is None and not other_head:  # a head that is replaced forgets what its classes were called
        labels = loaded.labels
    return LoadedModel(loaded.module, loaded.onnx, loaded.description, labels, found == classes)


def _loaded(spec: ModelSpec, classes: int, base: Path, other_head: bool) -> LoadedModel:
    zoo, _, name = spec.source.partition(":")
    if zoo == "torchvision":
        return _from_zoo(name, spec, classes, base, other_head)
    if zoo == "cifar":
        return _from_cifar(name, spec, classes, base)
    file, _, function = spec.source.rpartition(":")
    if file.endswith(".py"):
        return _from_file(base / file, function, spec, base)
    path, kind = base / spec.source, Path(spec.source).suffix
    if kind not in (".pt2", ".onnx"):
        raise ModelError(f"model.source '{spec.source}': not a model source; expected {KINDS}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; model.source expects {KINDS}")
    if spec.weights != "own" or spec.options:
        raise ModelError(
            f"{spec.source}: holds its own weights; take model.weights and model.options out of the recipe"
        )
    if kind == ".onnx":
        return LoadedModel(None, path, f"{path.name} (ONNX)")
    return LoadedModel(load_program(path), None, f"{path.name} (torch.export program)")


def _from_zoo(name: str, spec: ModelSpec, classes: int, base: Path, other_head: bool) -> LoadedModel:
    weights = spec.weights
    if weights == "own":
        raise ModelError(
            f"{spec.source}: say which weights: model.weights = "
            '"official", "random", or a .safetensors or weights-only .pt file'
        )
    if weights == "official" or weights.startswith("IMAGENET1K_"):
        description = f"torchvision:{name} ({weights} weights)"
        return LoadedModel(official(name, weights, spec.options), None, description, labels_of(name, weights))
    if weights == "random":
        description = f"torchvision:{name} (random weights)"
        return LoadedModel(unfilled(name, classes, spec.options).eval(), None, description)
    state, notes = read_state(base / weights)
    module = unfilled(name, classes, spec.options)
    held = head_size(state, module, classes)
    if held and held != classes:
        check_head(held, classes, weights, spec, other_head)
        module = unfilled(name, held, spec.options)
    notes += fill(module, state, base / weights, f"torchvision:{name}")
    return LoadedModel(module.eval(), None, f"torchvision:{name} ({'; '.join((Path(weights).name, *notes))})")


def _from_cifar(name: str, spec: ModelSpec, classes: int, base: Path) -> LoadedModel:
    if spec.options or spec.weights in ("own", "official"):
        raise ModelError(
            f'{spec.source}: takes no options and has no weights of its own; model.weights = "random", or a '
            ".safetensors or weights-only .pt file"
        )
    if spec.weights == "random":
        return LoadedModel(cifar_net(name, classes).eval(), None, f"cifar:{name} (random weights)")
    state, notes = read_state(base / spec.weights)
    module = cifar_net(name, head_size(state, cifar_net(name, classes), classes) or classes)
    notes += fill(module, state, base / spec.weights, spec.source)
    return LoadedModel(module.eval(), None, f"cifar:{name} ({'; '.join((Path(spec.weights).name, *notes))})")


def _from_file(path: Path, function: str, spec: ModelSpec, base: Path) -> LoadedModel:
    source = f"{path.name}:{function}"
    if spec.weights == "official":
        raise ModelError(f"{source}: no official weights for one's own model; name a .safetensors or .pt file, or own")
    module = user_module(path, function, spec.options).to("cpu", torch.float32)
    if spec.weights in ("own", "random"):
        return LoadedModel(module.eval(), None, source if spec.weights == "own" else f"{source} (random weights)")
    state, notes = read_state(base / spec.weights)
    notes += fill(module, state, base / spec.weights, source)
    return LoadedModel(module.eval(), None, f"{source} ({'; '.join((Path(spec.weights).name, *notes))})")


def _labels(spec: ModelSpec, base: Path) -> tuple[str, ...] | None:
    if spec.labels is None:
        return None
    try:
        text = (base / spec.labels).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"model.labels '{spec.labels}': cannot be read ({error}); a text file, one class a line"
        ) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
