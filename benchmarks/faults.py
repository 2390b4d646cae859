"""Faults of accuracy that a certificate must refuse, each sealed into a bundle with digests that fit: what went wrong
while the artifact was made, after the golden answers were taken.

    python -m benchmarks.faults     # ends with one JSON line of rows

A weight tensor that is corrupted, a graph whose preprocessing is another, int8 ranges calibrated on noise. The sound
bundle stands beside them: it must be certified and become ready.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import copytree, rmtree

import msgspec
import numpy as np

from benchmarks.rows import Row, print_rows, row
from deploy.containers.commands import certify_image
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.serve import run_server, stop_server
from deploy.images.build import build_image
from toolchain.cli.console import log_to_stderr
from toolchain.errors import DockerError
from toolchain.records.bundle import Bundle, file_record, open_bundle, write_bundle

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "bench-faults"
RECIPE = ROOT / "recipes" / "cifar10-resnet20.toml"
NAME = "faults-resnet20"
PIN = 'refuse = false\nchoose = "build"\n'  # int8 is to serve, whatever this device would choose
# builds with noise in place of the calibration pictures: a patch of the process, since no recipe can ask for it
NOISE = """
import numpy as np, sys
from pathlib import Path
import toolchain.build.pipeline as pipeline
real = pipeline.calibration_pictures
def noise(data, samples, seed):
    images, indices = real(data, samples, seed)
    return np.random.default_rng(0).integers(0, 256, images.shape, np.uint8), indices
pipeline.calibration_pictures = noise
print(pipeline.build(Path(sys.argv[1]), "openvino", None, lambda text: print(text, file=sys.stderr)).folder)
"""
SOUND = NOISE.replace("pipeline.calibration_pictures = noise\n", "")


def example(name: str) -> str:
    """The example's recipe under another name, to be written anywhere."""
    text = RECIPE.read_text().replace('"../', f'"{ROOT}/')
    assert text.count('name = "cifar10-resnet20"') == 1
    return text.replace('name = "cifar10-resnet20"', f'name = "{name}"')


def built(name: str, script: str, change: tuple[str, str] = ("", "")) -> Bundle:
    """A bundle of the example net, in a home of its own: a stage that was patched must not be kept for others."""
    home = WORK / name
    home.mkdir(parents=True, exist_ok=True)
    text = example(NAME)
    assert change[0] in text
    place = WORK / f"{name}.toml"
    place.write_text(text.replace(*change, 1).replace("refuse = true", PIN.strip()))
    for shared in ("data", "wheelhouse", "packages"):
        with suppress(FileExistsError):
            (home / shared).symlink_to(ROOT / ".toolchain" / shared)
    command = [sys.executable, "-c", script, str(place)]
    environment = {**os.environ, "TOOLCHAIN_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return open_bundle(Path(done.stdout.strip().rpartition("\n")[2]))


def with_artifact(sound: Bundle, donor: Path, name: str) -> Bundle:
    """The sound bundle round another artifact of the precision that serves."""
    served = set(sound.manifest.serving.files)
    parts = [(donor if file.path in served else sound.folder) / file.path for file in sound.manifest.files]
    manifest = msgspec.structs.replace(sound.manifest, release=name, files=tuple(file_record(path) for path in parts))
    return write_bundle(WORK / "bundles" / f"{name}.bundle", manifest, parts)


def corrupted(sound: Bundle) -> Path:
    """A folder with the artifact, the bytes of its biggest weight tensor in another order."""
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


def judged(bundle: Bundle) -> tuple[bool, bool, str]:
    """(certified, a server of it became ready, the first check that failed), in real containers."""
    image = build_image(bundle, None)
    given = certify_image(image.tag)
    failed = "; ".join(f"{one.name}: {one.found}, expected {one.expected}" for one in given.checks if not one.passed)
    name = f"edge-bench-faults-{bundle.manifest.release}"
    try:
        run_server(image.tag, PublishedEndpoint(0), name)
    except DockerError as error:
        return given.passed, False, failed or str(error)
    stop_server(name)
    return given.passed, True, failed


def rows() -> Iterator[Row]:
    sound = built("sound", SOUND)
    wrong = built("preprocessing", SOUND, ("mean = [0.4914, 0.4822, 0.4465]", "mean = [0.0, 0.0, 0.0]"))
    noise = built("noise", NOISE)
    faulty = {
        "corrupted-tensor": with_artifact(sound, corrupted(sound), "corrupted-tensor"),
        "wrong-preprocessing": with_artifact(sound, wrong.folder, "wrong-preprocessing"),
        "calibrated-on-noise": with_artifact(sound, noise.folder, "calibrated-on-noise"),
    }
    given, ready, why = judged(sound)
    yield row(
        "the sound bundle is certified and ready", int(given) + int(ready), ">=", 2, "of 2", why or "no check failed"
    )
    for name, bundle in faulty.items():
        given, ready, why = judged(bundle)
        yield row(f"{name}: certified, or ready", int(given) + int(ready), "<=", 0, "of 2", why)


if __name__ == "__main__":
    log_to_stderr()
    print_rows(list(rows()))
