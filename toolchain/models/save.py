"""A net's weights as a .safetensors file that says how to build it again, proven by reading it back.

Knows nothing of steps and accuracies: their record is handed in.
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

TOLERANCE = 1e-4  # of the largest logit: other memory formats add up in another order
TRIAL_IMAGES = 2


def structure_for_source(spec: ModelSpec, base: Path, module: nn.Module, classes: int) -> Structure:
    """How `module`, with `classes` logits, differs from what `spec` builds. ModelError where that has no words."""
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
    """Write `tensors`, what is to be kept of `module`, and `record` to `path`, whole or not at all. ModelError when a
    net that is loaded from the file would not answer as `module` does."""
    metadata = {KEY: msgspec.json.encode(record, order="deterministic").decode()}
    content = save({name: one.detach().clone().contiguous() for name, one in tensors.items()}, metadata)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_bytes(content)
        again = ModelSpec(spec.source, str(trial), None, spec.options)
        loaded = load_model(again, record.input, record.classes, base, rebuild=rebuild).require_module()
    _check_same_output(module, loaded, record.input, path)
    write_atomically(path, content)


def _check_same_output(module: nn.Module, loaded: nn.Module, shape: Preprocessing, path: Path) -> None:
    pictures = torch.randn(
        TRIAL_IMAGES, shape.channels, shape.height, shape.width, generator=torch.Generator().manual_seed(0)
    )
    with evaluation_mode(module), evaluation_mode(loaded), torch.inference_mode():
        expected, found = module(pictures), loaded(pictures)
    off, largest = float((expected - found).abs().max()), float(expected.abs().max())
    counts = [sum(one.numel() for one in net.parameters()) for net in (module, loaded)]
    if not off <= TOLERANCE * largest or counts[0] != counts[1]:
        raise ModelError(
            f"{path}: not written: read back, the net has {counts[1]:,} parameters of {counts[0]:,} and answers "
            f"{off:.2g} apart, of {largest:.2g}; does the model keep state outside its parameters and buffers?"
        )
