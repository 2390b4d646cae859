"""Killed with SIGKILL at a random moment and started again: the same weights as a straight run?

    python -m benchmarks.compression.resume
    python -m benchmarks.compression.resume --step=finetune --kills=2

A step at a time, through the real command line on examples/own_model's pictures, one thread. What is compared is the
digest of the net that the step leaves in the cache.
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

from benchmarks.rows import Row, print_rows, row
from toolchain.compress.serialization import load_compressed, weights_digest
from toolchain.models import import_user_file

BIN, EXAMPLE = Path(sys.executable).parent, Path(__file__).parents[2] / "examples" / "own_model"
COMMON = 'epochs = 8, batch_size = 32, lr = 0.02, ema_decay = 0.99, augment = ["crop", "mixup"]'
STEPS = {
    "finetune": f"finetune = {{ {COMMON} }}",
    "distill": f"distill = {{ {COMMON} }}",
    "qat": 'qat = { epochs = 8, batch_size = 32, lr = 0.002, augment = ["crop"] }',
}
EPOCH = "epoch "  # what a line of progress begins with


def made(folder: Path) -> Path:
    """The example's net, weights and pictures in a folder of our own."""
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


def training(recipe: Path, home: Path) -> dict[str, Any]:
    """The step alone, by the command line, its results thrown away; the progress is on stderr."""
    command = [str(BIN / "toolchain"), "weights", str(recipe), f"--out={recipe.with_suffix('.safetensors')}"]
    return {"args": command, "env": environment(home), "stdout": subprocess.DEVNULL, "text": True}


def straight(recipe: Path, home: Path) -> float:
    """Train it; the seconds that its epochs took."""
    times = []
    with subprocess.Popen(**training(recipe, home), stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        for line in job.stderr:
            if line.startswith(EPOCH):
                times.append(time.monotonic())
    if job.returncode:
        raise subprocess.CalledProcessError(job.returncode, job.args)
    return times[-1] - times[0]


def killed(recipe: Path, home: Path, after_s: float) -> int:
    """Kill it so long after it told of an epoch; how many it had told by then."""
    with subprocess.Popen(**training(recipe, home), stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        epochs = int(any(line.startswith(EPOCH) for line in job.stderr))
        time.sleep(after_s)
        job.send_signal(signal.SIGKILL)
        later: int = sum(line.startswith(EPOCH) for line in job.stderr)
        return epochs + later


def resumed(folder: Path, name: str, kills: int, moment: random.Random) -> Row:
    recipe, homes = recipe_of(folder, name), (folder / name / "straight", folder / name / "killed")
    seconds = straight(recipe, homes[0])
    told = [killed(recipe, homes[1], moment.uniform(0, 0.8 * seconds / kills)) for _ in range(kills)]
    subprocess.run(**training(recipe, homes[1]), check=True)
    wanted, found = (digest(recipe, home, name) for home in homes)
    note = f"killed after {' and '.join(map(str, told))} told epochs of 8; digest {found[:12]}, straight {wanted[:12]}"
    what = f"{name}: killed at a random epoch, restarted: same weights digest as the straight run"
    return row(what, float(found != wanted), "<=", 0, "differ", note)


def rows(steps: Sequence[str] = tuple(STEPS), kills: int = 1, seed: int = 0) -> list[Row]:
    """A row a step; `seed` decides the moments."""
    with tempfile.TemporaryDirectory(prefix="edge-resume-") as name:
        folder, moment = made(Path(name)), random.Random(seed)  # no secret
        return [resumed(folder, one, kills, moment) for one in steps]


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--step", choices=STEPS, action="append")
    words.add_argument("--kills", type=int, default=1)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    print_rows(rows(given.step or tuple(STEPS), given.kills, given.seed))


if __name__ == "__main__":
    main()
