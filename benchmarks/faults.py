"""Accuracy faults that a certificate must refuse, each in a bundle with matching digests: errors made while building
the artifact, after the golden outputs were recorded.

    python -m benchmarks.faults     # ends with one JSON line of rows

A corrupted weight tensor, a graph with other preprocessing, int8 ranges calibrated on noise. The correct bundle is the
control: it must be certified and become ready.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np

from benchmarks.rows import Row, guarded_rows, print_rows, row
from deploy.containers.commands import certify_image
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.serve import run_server, stop_server
from deploy.images.build import build_image
from toolchain.build import artifacts, pipeline
from toolchain.cli.console import log_to_stderr
from toolchain.data import DataSet
from toolchain.errors import DockerError
from toolchain.job import samples
from toolchain.records.bundle import Bundle, file_record, open_bundle, write_bundle

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "bench-faults"
RECIPE = ROOT / "recipes" / "cifar10-resnet20.toml"
NAME = "faults-resnet20"
PIN = 'refuse = false\nchoose = "build"\n'  # int8 must serve, whatever this device would choose
BUILD = "from benchmarks.faults import build_here; import sys; build_here(sys.argv[1], noise=sys.argv[2] == 'noise')"


def build_here(recipe: str, noise: bool) -> None:
    """Build in this process and print the bundle's folder; noise: calibrate on noise, which no recipe can request."""
    real = samples.calibration_images

    def noisy(data: DataSet, count: int, seed: int) -> tuple[Any, Any]:
        images, indices = real(data, count, seed)
        return np.random.default_rng(0).integers(0, 256, images.shape, np.uint8), indices

    log_to_stderr()
    with patch.object(artifacts, real.__name__, noisy if noise else real):
        print(pipeline.build(Path(recipe), "openvino", None).folder)


def example_recipe(name: str) -> str:
    """The example's recipe under another name, with absolute paths."""
    text = RECIPE.read_text().replace('"../', f'"{ROOT}/')
    assert text.count('name = "cifar10-resnet20"') == 1
    return text.replace('name = "cifar10-resnet20"', f'name = "{name}"')


def build_bundle(name: str, change: tuple[str, str] = ("", "")) -> Bundle:
    """A bundle of the example model, built in its own home folder so that patched stages are not cached for others."""
    home = WORK / name
    home.mkdir(parents=True, exist_ok=True)
    text = example_recipe(NAME)
    assert change[0] in text
    recipe = WORK / f"{name}.toml"
    recipe.write_text(text.replace(*change, 1).replace("refuse = true", PIN.strip()))
    for shared in ("data", "wheelhouse", "packages"):
        with suppress(FileExistsError):
            (home / shared).symlink_to(ROOT / ".toolchain" / shared)
    command = [sys.executable, "-c", BUILD, str(recipe), name]
    environment = {**os.environ, "TOOLCHAIN_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return open_bundle(Path(done.stdout.strip().rpartition("\n")[2]))


def replace_artifact(sound: Bundle, donor: Path, name: str) -> Bundle:
    """The correct bundle with another artifact for the precision that serves."""
    served = set(sound.manifest.serving.files)
    paths = [(donor if file.path in served else sound.folder) / file.path for file in sound.manifest.files]
    manifest = msgspec.structs.replace(sound.manifest, release=name, files=tuple(file_record(path) for path in paths))
    return write_bundle(WORK / "bundles" / f"{name}.bundle", manifest, paths)


def corrupt_weights(sound: Bundle) -> Path:
    """A folder with the artifact, the bytes of its largest weight tensor shuffled."""
    folder = WORK / "corrupted"
    rmtree(folder, ignore_errors=True)
    copytree(sound.folder, folder)
    graph = next(folder / name for name in sound.manifest.serving.files if name.endswith(".xml"))
    weights = graph.with_suffix(".bin")
    tensors = [
        data for layer in ET.parse(graph).iter("layer") if layer.get("type") == "Const" for data in layer.iter("data")
    ]
    biggest = max(tensors, key=lambda data: int(data.get("size", 0)))
    start, size = int(biggest.get("offset", 0)), int(biggest.get("size", 0))
    content = bytearray(weights.read_bytes())
    values = np.frombuffer(bytes(content[start : start + size]), np.uint8)
    content[start : start + size] = np.random.default_rng(0).permutation(values).tobytes()
    weights.write_bytes(content)
    return folder


def certify_and_serve(bundle: Bundle) -> tuple[bool, bool, str]:
    """(certified, a server became ready, the failed checks), in real containers."""
    image = build_image(bundle, None)
    certificate = certify_image(image.tag)
    failed = "; ".join(
        f"{check.name}: {check.found}, expected {check.expected}" for check in certificate.checks if not check.passed
    )
    name = f"edge-bench-faults-{bundle.manifest.release}"
    try:
        run_server(image.tag, PublishedEndpoint(0), name)
    except DockerError as error:
        return certificate.passed, False, failed or str(error)
    stop_server(name)
    return certificate.passed, True, failed


def rows() -> Iterator[Row]:
    sound = build_bundle("sound")
    wrong = build_bundle("preprocessing", ("mean = [0.4914, 0.4822, 0.4465]", "mean = [0.0, 0.0, 0.0]"))
    noise = build_bundle("noise")
    faulty = {
        "corrupted-tensor": replace_artifact(sound, corrupt_weights(sound), "corrupted-tensor"),
        "wrong-preprocessing": replace_artifact(sound, wrong.folder, "wrong-preprocessing"),
        "calibrated-on-noise": replace_artifact(sound, noise.folder, "calibrated-on-noise"),
    }
    options, ready, why = certify_and_serve(sound)
    yield row(
        "the correct bundle is certified and ready",
        int(options) + int(ready),
        ">=",
        2,
        "of 2",
        why or "no check failed",
    )
    for name, bundle in faulty.items():
        options, ready, why = certify_and_serve(bundle)
        yield row(f"{name}: certified, or ready", int(options) + int(ready), "<=", 0, "of 2", why)


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("faults", rows))
