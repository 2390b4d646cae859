"""An interrupt that was swallowed is raised again where long work looks next."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from toolchain.interrupts import check, listening
from toolchain.job.stage import Stage
from toolchain.job.stage_cache import StageCache
from toolchain.progress import track


def swallowed() -> None:
    """What a library does that catches everything."""
    with suppress(BaseException):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_swallowed_interrupt_ends_the_work_at_the_next_stage(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    with pytest.raises(KeyboardInterrupt), listening():
        cache.run(Stage("first", "first", None, {}, lambda *_: swallowed()))
        cache.run(Stage("second", "second", None, {}, lambda *_: None))
    assert [path.name.split("-")[0] for path in tmp_path.iterdir() if path.is_dir()] == ["first"]


def test_a_swallowed_interrupt_ends_a_loop_at_its_next_item() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), listening():
        for item in track(range(5), "items"):
            done.append(item)
            if item == 1:
                swallowed()
    assert done == [0, 1]


def test_an_interrupt_is_forgotten_after_the_last_listener() -> None:
    before = signal.getsignal(signal.SIGINT)
    with listening():
        swallowed()
    check()
    assert signal.getsignal(signal.SIGINT) is before


OUT_OF_TURN = """
import os, signal
import openvino
from toolchain.interrupts import listening

cores = [openvino.Core(), openvino.Core()]
for core in cores:
    core.get_property("CPU", "FULL_DEVICE_NAME")
del core, cores[0], cores[0]
try:
    with listening():
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_survives_the_signal_stack_that_openvino_leaves_freed() -> None:
    done = subprocess.run([sys.executable, "-c", OUT_OF_TURN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
