"""A torch net on the target's engine, for a trial: net -> ONNX -> artifact -> engine, and how long one picture takes.

What is built for a trial is thrown away or kept as a stage by who asks. Knows nothing of recipes' steps nor of what a
figure means (paying.py does).
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import backend
from toolchain.making import Making
from toolchain.measuring import latencies_ms
from toolchain.records.manifest import Candidate
from toolchain.samples import trial_pictures

if TYPE_CHECKING:
    from torch import nn

Trial = tuple[Path, Candidate]  # a folder, and the artifact whose files lie in it


def latencies(making: Making, modules: "Sequence[nn.Module]") -> tuple[float, ...]:
    """Median milliseconds of one picture for each of `modules`, in fp32 on the target's engine, in turn in one run."""
    from toolchain.export import onnx_from_torch

    with tempfile.TemporaryDirectory(prefix="trial.") as temporary:
        trials: dict[str, Trial] = {}
        for number, module in enumerate(modules):
            folder = Path(temporary) / str(number)
            onnx = onnx_from_torch(module, making.recipe.input, folder / "model.onnx")
            trials[str(number)] = folder, backend(making.target).build(onnx, folder, "fp32", None)
        found = timed(making, trials)
    return tuple(found[str(number)] for number in range(len(modules)))


def timed(making: Making, trials: Mapping[str, Trial]) -> dict[str, float]:
    """Median milliseconds of one picture for each trial, by its name, all of one run; DeviceError for one that cannot
    run here."""
    settings = Settings(making.threads)
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(open_engine(folder, candidate, settings))
            for name, (folder, candidate) in trials.items()
        }
        return latencies_ms(engines, trial_pictures(making.data)) if engines else {}
