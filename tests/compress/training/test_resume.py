"""A training that is really killed, and goes on with the same result.

One process imports torch and then forks a child for each training, on request: the import costs more than all of them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EPOCHS = 30
FORKS = f"""
import os, sys
from pathlib import Path
import logging, torch, torch._dynamo
from tests.compress.nets import context, tiny
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import CompressedModel
torch.set_num_threads(1)
options = dict(batch_size=16, lr=0.1, ema_decay=0.9, warmup_epochs=1, freeze=("stem",), unfreeze_after=3)
step = Finetune(epochs={EPOCHS}, **options)
logging.basicConfig(stream=sys.stdout, level="INFO", format="%(message)s")
say = logging.info
for line in sys.stdin:
    child = os.fork()
    if not child:
        say(f"pid {{os.getpid()}}")
        after = step.apply(CompressedModel(tiny(dropout=0.2)), context(Path(line.strip())))
        say(f"weights {{weights_digest(after.module)}}")
        os._exit(0)
    say(f"ended {{os.waitpid(child, 0)[1]}}")
"""


@contextmanager
def forks() -> "Iterator[subprocess.Popen[str]]":
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=pipe, stdout=pipe, text=True, env=environment
    ) as process:
        yield process
        process.communicate()


def lines(process: "subprocess.Popen[str]", folder: Path, kill_after: int = 0, wait_s: float = 0.0) -> list[str]:
    """What a training in `folder` says, to its end; or kill -9 `wait_s` after `kill_after` epochs are whole."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(folder, file=process.stdin, flush=True)
    child, said = int(process.stdout.readline().split()[1]), list[str]()
    for line in process.stdout:
        said.append(line.strip())
        if line.startswith("ended"):
            return said
        if kill_after and sum(one.startswith("epoch") for one in said) == kill_after:
            time.sleep(wait_s)
            os.kill(child, signal.SIGKILL)
            kill_after = 0
    raise AssertionError(f"the process ended: {said}")


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    with forks() as process:
        first = lines(process, tmp_path / "killed", 2, 0.003)
        second = lines(process, tmp_path / "killed", 3, 0.011)
        resumed = lines(process, tmp_path / "killed")
        straight = lines(process, tmp_path / "straight")
    assert first[-1] == second[-1] == f"ended {int(signal.SIGKILL)}"
    assert second[0].startswith("resuming after epoch ")
    assert resumed[0].startswith("resuming after epoch ")
    assert sum(line.startswith("epoch") for line in straight) == EPOCHS
    assert sum(line.startswith("epoch") for line in resumed) <= EPOCHS - 5
    assert resumed[-2:] == straight[-2:]
    assert straight[-2].startswith("weights ")
