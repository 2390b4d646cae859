"""`make bench-main`: the main job on a new machine, measured from outside, as a user runs it.

A fresh clone of the last commit, an empty home folder, empty package caches and (as root) its own empty Docker Engine;
only the apt packages installed on this machine are missing from the measurement. This file does not know the toolchain
from inside: it runs commands and reads their output.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.engine import empty_engine
from benchmarks.rows import Row, guarded_rows, print_rows, row

ROOT = Path(__file__).parent.parent
PORT = 18080
RECIPE = "recipes/cifar10-resnet20.toml"
FORBIDDEN = ("torch", "torchvision", "onnx", "nncf", "fire")
# What a new user does not have: the developers' folders, and variables that make a nested make print its directory
DEVELOPER_VARIABLES = ("TOOLCHAIN_HOME", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
LISTING = "import importlib.metadata as m; print(*(d.metadata['Name'].lower() for d in m.distributions()))"


@dataclass(frozen=True)
class Clone:
    """A new user's checkout and environment."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str) -> tuple[str, float]:
        """stdout and seconds; stderr is passed through. CalledProcessError when it fails."""
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout, time.monotonic() - began

    def toolchain(self, *words: str) -> dict[str, Any]:
        """The JSON document that a command prints last."""
        return last_json_line(self.run(".venv/bin/toolchain", *words)[0])


def last_json_line(printed: str) -> dict[str, Any]:
    document = json.loads(printed.strip().rpartition("\n")[2])
    assert isinstance(document, dict)
    return document


@contextmanager
def fresh_clone() -> Iterator[Clone]:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name) / "edge-toolchain"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        environment = {key: value for key, value in os.environ.items() if key not in DEVELOPER_VARIABLES}
        environment |= {
            "XDG_CACHE_HOME": f"{name}/cache",
            "npm_config_cache": f"{name}/npm",
        }  # so that everything is fetched
        if os.geteuid():
            print("not root: using this machine's Docker Engine with its images", file=sys.stderr)
            yield Clone(folder, environment)
            return
        with empty_engine(Path(name) / "engine") as host:
            yield Clone(folder, {**environment, "DOCKER_HOST": host})


def main_job_rows(fresh: Clone) -> Iterator[Row]:
    """Set-up and first run, second run, accuracy over HTTP, speed, image."""
    printed, seconds = fresh.run("make", "deploy-cpu", f"PORT={PORT}")
    first = last_json_line(printed)
    yield row("new machine, make deploy-cpu with all set-up", seconds / 60, "<=", 15, "minutes")
    _, seconds = fresh.run("make", "deploy-cpu", f"PORT={PORT}")
    yield row("second run, nothing changed", seconds, "<=", 30, "s")
    served = fresh.toolchain("eval", f"http://localhost:{PORT}", f"--recipe={RECIPE}")
    torch = fresh.toolchain("eval", RECIPE)
    lost = 100 * (torch["accuracy"] - served["accuracy"])
    note = f"{first['precision']} {served['accuracy']:.2%} by HTTP, torch fp32 {torch['accuracy']:.2%}"
    yield row(f"CIFAR-10 ResNet-20, {served['images']} test images over HTTP", lost, "<=", 0.3, "points lost", note)
    note = f"{first['speedup_over_openvino_fp32']:.2f} times OpenVINO fp32"
    yield row("speed against PyTorch fp32 eager, batch 1", first["speedup"], ">=", 3, "times", note)
    yield row("image, unpacked", first["image_bytes"] / 1e6, "<=", 260, "MB")
    yield row("cold start: container start to first answer", first["cold_start_s"], "<", 2, "s")
    names = fresh.run("docker", "run", "--rm", "--entrypoint", "python3", first["image"], "-c", LISTING)[0].split()
    forbidden = [name for name in FORBIDDEN if name in names]
    fresh.toolchain("stop", first["image"].partition(":")[0])
    yield row(
        "of torch, torchvision, onnx, nncf, fire in the image",
        len(forbidden),
        "<=",
        0,
        "packages",
        ", ".join(forbidden),
    )


def photos_row(fresh: Clone) -> Row:
    """EfficientNet-Lite0: does INT8, calibrated on other images, predict the same as FP32 on the 20 photos?"""
    result = fresh.toolchain("build", "recipes/efficientnet-lite0.toml")
    printed, _ = fresh.run(".venv/bin/python", "-m", "benchmarks.compression.photos", result["bundle"])
    same = last_json_line(printed)
    note = f"right: fp32 {same['right_fp32']}, int8 {same['right_int8']}; served: {result['precision']}"
    return row("EfficientNet-Lite0 INT8, same top-1 as FP32", same["same"], ">=", 18, "of 20 photos", note)


def own_model_rows(fresh: Clone, recipe: str, what: str) -> Iterator[Row]:
    """A user's own model, deployed to a container and evaluated over HTTP."""
    fresh.run(".venv/bin/python", "examples/own_model/make_data.py")
    result = fresh.toolchain("deploy", recipe, f"--port={PORT + 1}")
    answered = fresh.toolchain("eval", result["url"], f"--recipe={recipe}")
    fresh.toolchain("stop", result["image"].partition(":")[0])
    lost = 100 * (result["accuracy_fp32"] - answered["accuracy"])
    note = f"{result['precision']}, {answered['accuracy']:.1%} of {answered['images']} by HTTP"
    yield row(what, lost, "<=", 0.5, "points lost", note)


def main() -> None:
    with fresh_clone() as fresh:
        rows = guarded_rows("the main job", lambda: main_job_rows(fresh))
        rows += guarded_rows("photos", lambda: [photos_row(fresh)])
        for name, what in (("grey28", "own 1x28x28 net with 7 classes"), ("wide", "own 3x96x160 net")):
            recipe = f"examples/own_model/{name}.toml"
            rows += guarded_rows(what, partial(own_model_rows, fresh, recipe, what))
    print_rows(rows)


if __name__ == "__main__":
    main()
