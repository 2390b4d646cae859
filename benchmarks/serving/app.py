"""Compares our measurement of the bare engine with OpenVINO's own benchmark_app, which cannot measure slices."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import Row, row
from benchmarks.serving.bare import Ask
from benchmarks.serving.player import Player
from benchmarks.serving.slices import Slice
from deploy.gate.statistics import median
from toolchain.records.bundle import Bundle

SECONDS, LOADED, ROUNDS = 2, 4, 3
WORDS = ("-hint", "throughput", "-infer_precision", "f32", "-d", "CPU", "-t", str(SECONDS))


def agreement(bundle: Bundle, engine: Player) -> Row:
    """A row: benchmark_app's throughput over ours, both with the throughput hint, interleaved; the median of the
    ratios."""
    shares = []
    before = engine.ask(Ask(SECONDS, LOADED), Slice)
    for _ in range(ROUNDS):
        rate = _throughput(bundle)
        after = engine.ask(Ask(SECONDS, LOADED), Slice)
        shares.append(2 * rate / (before.rate + after.rate))
        before = after
    note = f"rounds {min(shares):.2f} to {max(shares):.2f}"
    return row(f"{bundle.manifest.name}: benchmark_app over our bare engine", median(shares), "<=", 1.05, "times", note)


def _throughput(bundle: Bundle) -> float:
    model = bundle.folder / bundle.manifest.serving.files[0]
    shape = ",".join(map(str, (1, *bundle.manifest.preprocessing.shape)))
    program = Path(sys.executable).parent / "benchmark_app"
    command: list[str | Path] = [sys.executable, program, "-m", model, "-shape", f"[{shape}]", *WORDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"Throughput: *([\d.]+) FPS", done.stdout)
    if not match:
        raise RuntimeError(f"benchmark_app: {(done.stdout + done.stderr).strip()[-300:]}")
    return float(match[1])
