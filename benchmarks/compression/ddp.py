"""Two processes under torchrun against one with the same global batch: is a step's accuracy the same?

    python -m benchmarks.compression.ddp
    python -m benchmarks.compression.ddp --samples=1024 --epochs=1 --seeds=1

ResNet-8 on CIFAR-10 through the real command line, one thread a process. Builds are kept in a separate folder, so an
interrupted run resumes.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.rows import Row, guarded_rows, print_rows, row
from toolchain.paths import home

BIN = Path(sys.executable).parent
RECIPE = """
name = "ddp-{processes}-{seed}"

[model]
source = "cifar:resnet8"
weights = "random"

[input]
height = 32
width = 32
mean = [0.4914, 0.4822, 0.4465]
std = [0.247, 0.2435, 0.2616]

[data]
name = "cifar10"

[[step]]
finetune = {{ epochs = {epochs}, samples = {samples}, batch_size = 128, lr = 0.1, seed = {seed}, keep_best = false }}

[build]
seed = {seed}
"""


def validation_accuracy(processes: int, seed: int, samples: int, epochs: int) -> float:
    """Validation accuracy after training in `processes` processes, in percent."""
    folder = home() / "bench-ddp" / str(processes)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"{seed}.toml"
    recipe.write_text(RECIPE.format(processes=processes, seed=seed, samples=samples, epochs=epochs))
    torchrun = [str(BIN / "torchrun"), "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    (folder / "home").mkdir(exist_ok=True)
    if not (folder / "home" / "data").exists():
        (folder / "home" / "data").symlink_to(home() / "data")
    done = subprocess.run(
        [*torchrun, str(BIN / "toolchain"), "build", str(recipe), "--target=null"],
        env={**os.environ, "TOOLCHAIN_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    bundle = Path(json.loads(done.stdout.splitlines()[-1])["bundle"])
    return 100 * float(json.loads((bundle / "manifest.json").read_text())["steps"][-1]["accuracy_validate"])


def comparison_row(samples: int = 8000, epochs: int = 4, seeds: int = 2) -> Row:
    """The difference of the means, compared with twice its standard error over seeds and images."""
    single, two = ([validation_accuracy(n, seed, samples, epochs) for seed in range(seeds)] for n in (1, 2))
    mean = fmean([*single, *two]) / 100
    images = 1000  # of the validation split; the same for both, so this is conservative
    spread = max([stdev(accuracies) for accuracies in (single, two) if len(accuracies) > 1], default=0.0)
    noise = 2 * (2 * (spread**2 + 1e4 * mean * (1 - mean) / images) / seeds) ** 0.5
    note = (
        f"{fmean(single):.1f} % in one, {fmean(two):.1f} % in two; {samples} images, {epochs} epochs, {seeds} seeds; "
        f"spread over seeds {spread:.1f}"
    )
    what = "DDP with 2 processes on CPU: same accuracy within noise as one process with the same global batch"
    return row(what, abs(fmean(single) - fmean(two)), "<=", noise, "points", note)


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--samples", type=int, default=8000)
    words.add_argument("--epochs", type=int, default=4)
    words.add_argument("--seeds", type=int, default=2)
    options = words.parse_args()
    print_rows(guarded_rows("two processes", lambda: [comparison_row(options.samples, options.epochs, options.seeds)]))


if __name__ == "__main__":
    main()
