"""Writes a model's weights to a .safetensors file that records how to rebuild it, and verifies it by loading it again.

Knows nothing of steps and accuracies: their record is passed in.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor, nn

from toolchain.errors import ModelError
from toolchain.models.eval_mode import evaluation_mode
from toolchain.models.load import build_network, load_model
from toolchain.models.structure import QatRebuilder, structure_difference
from toolchain.recipe import ModelSpec
from toolchain.records.storage import write_atomically
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import KEY, Structure, Weights

TOLERANCE = 1e-4  # relative to the largest logit: memory formats differ in the order of summation
TRIAL_IMAGES = 2


def structure_for_source(spec: ModelSpec, base: Path, module: nn.Module, classes: int) -> Structure:
    """How `module`, with `classes` logits, differs from what `spec` builds. ModelError when the difference cannot be
    recorded."""
    with torch.random.fork_rng(devices=[]):
        return structure_difference(build_network(spec, classes, base), module)


def write_weights(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    record: Weights,
    spec: ModelSpec,
    base: Path,
    path: Path,
    rebuild: QatRebuilder | None,
) -> None:
    """Write `tensors`, the stored state of `module`, and `record` to `path` atomically. ModelError when a model loaded
    from the file would not give the same outputs as `module`."""
    metadata = {KEY: msgspec.json.encode(record, order="deterministic").decode()}
    content = save({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, metadata)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_bytes(content)
        again = ModelSpec(spec.source, str(trial), None, spec.options, output=spec.output)
        classes = max(2, record.classes)  # one output is two classes
        loaded = load_model(again, record.input, classes, base, rebuild=rebuild).require_module()
    _check_same_output(module, loaded, record.input, path)
    write_atomically(path, content)


def _check_same_output(module: nn.Module, loaded: nn.Module, shape: Preprocessing, path: Path) -> None:
    images = torch.randn(
        TRIAL_IMAGES, shape.channels, shape.height, shape.width, generator=torch.Generator().manual_seed(0)
    )
    with evaluation_mode(module), evaluation_mode(loaded), torch.inference_mode():
        expected, reloaded = module(images), loaded(images)
    difference, largest = float((expected - reloaded).abs().max()), float(expected.abs().max())
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (module, loaded)]
    if not difference <= TOLERANCE * largest or counts[0] != counts[1]:
        raise ModelError(
            f"{path}: not written: read back, the model has {counts[1]:,} of {counts[0]:,} parameters and its outputs "
            f"differ by {difference:.2g} (largest output {largest:.2g}); does the model keep state outside its "
            "parameters and buffers?"
        )
