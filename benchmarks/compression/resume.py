"""Is a training that was killed (SIGKILL) and restarted bit-identical to an uninterrupted one?

    python -m benchmarks.compression.resume
    python -m benchmarks.compression.resume --step=finetune --kills=2

One step at a time, by the real command line on the images of examples/own_model, with one thread. Compares the
digests of the weights that the step leaves in the cache.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copy2
from typing import Any

from benchmarks.rows import Row, guarded_rows, print_rows, row
from toolchain.compress.serialization import load_compressed, weights_digest
from toolchain.models import import_user_file

BIN, EXAMPLE = Path(sys.executable).parent, Path(__file__).parents[2] / "examples" / "own_model"
COMMON = 'epochs = 8, batch_size = 32, lr = 0.02, ema_decay = 0.99, augment = ["crop", "mixup"]'
STEPS = {
    "finetune": f"finetune = {{ {COMMON} }}",
    "distill": f"distill = {{ {COMMON} }}",
    "qat": 'qat = { epochs = 8, batch_size = 32, lr = 0.002, augment = ["crop"] }',
}
EPOCH = "epoch "  # the start of a progress line


def copy_example(folder: Path) -> Path:
    """The example's network, weights and images, copied to `folder`."""
    for name in ("nets.py", "make_data.py", "grey28.safetensors"):
        copy2(EXAMPLE / name, folder)
    subprocess.run([sys.executable, "make_data.py"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def recipe_of(folder: Path, name: str) -> Path:
    text = (EXAMPLE / "grey28.toml").read_text()
    head = text[: text.index("[[step]]")]
    place = folder / f"{name}.toml"
    place.write_text(f"{head}[[step]]\n{STEPS[name]}\n")
    return place


def environment(home: Path) -> Mapping[str, str]:
    return {**os.environ, "TOOLCHAIN_HOME": str(home), "OMP_NUM_THREADS": "1"}


def digest(recipe: Path, home: Path, step: str) -> str:
    import_user_file(recipe.parent / "nets.py")
    [place] = (home / "cache").glob(f"{step}-*/net.pt")
    return weights_digest(load_compressed(place).module)


def training_process(recipe: Path, home: Path) -> dict[str, Any]:
    """Arguments of a process that trains only this step; its progress goes to stderr."""
    command = [str(BIN / "toolchain"), "weights", str(recipe), f"--out={recipe.with_suffix('.safetensors')}"]
    return {"args": command, "env": environment(home), "stdout": subprocess.DEVNULL, "text": True}


def train_uninterrupted(recipe: Path, home: Path) -> float:
    """Train without interruption; returns the seconds from the first epoch to the last."""
    times = []
    with subprocess.Popen(**training_process(recipe, home), stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        for line in job.stderr:
            if line.startswith(EPOCH):
                times.append(time.monotonic())
    if job.returncode:
        raise subprocess.CalledProcessError(job.returncode, job.args)
    return times[-1] - times[0]


def kill_training(recipe: Path, home: Path, after_s: float) -> int:
    """Kill the training `after_s` after it reported an epoch; returns how many epochs it had reported."""
    with subprocess.Popen(**training_process(recipe, home), stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        epochs = int(any(line.startswith(EPOCH) for line in job.stderr))
        time.sleep(after_s)
        job.send_signal(signal.SIGKILL)
        later: int = sum(line.startswith(EPOCH) for line in job.stderr)
        return epochs + later


def resume_row(folder: Path, name: str, kills: int, moment: random.Random) -> Row:
    recipe, homes = recipe_of(folder, name), (folder / name / "straight", folder / name / "killed")
    seconds = train_uninterrupted(recipe, homes[0])
    interruptions = [kill_training(recipe, homes[1], moment.uniform(0, 0.8 * seconds / kills)) for _ in range(kills)]
    subprocess.run(**training_process(recipe, homes[1]), check=True)
    expected, actual = (digest(recipe, home, name) for home in homes)
    epochs = " and ".join(map(str, interruptions))
    note = f"killed after {epochs} reported epochs of 8; digest {actual[:12]}, uninterrupted {expected[:12]}"
    what = f"{name}: killed at a random epoch, restarted: same weights digest as an uninterrupted run"
    return row(what, float(actual != expected), "<=", 0, "differ", note)


def rows(steps: Sequence[str] = tuple(STEPS), kills: int = 1, seed: int = 0) -> list[Row]:
    """A row a step; `seed` decides the moments."""
    with tempfile.TemporaryDirectory(prefix="edge-resume-") as name:
        folder, moment = copy_example(Path(name)), random.Random(seed)  # no secret
        return [resume_row(folder, step, kills, moment) for step in steps]


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--step", choices=STEPS, action="append")
    words.add_argument("--kills", type=int, default=1)
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()
    print_rows(guarded_rows("resume", lambda: rows(options.step or tuple(STEPS), options.kills, options.seed)))


if __name__ == "__main__":
    main()
