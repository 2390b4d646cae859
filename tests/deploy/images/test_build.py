import subprocess
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.containers.run_once import SANDBOX
from deploy.docker.engine import client_command
from deploy.images.build import BuiltImage, app_files, build_image, default_tag, image_manifest, write_context
from deploy.images.content import read_content
from deploy.images.signatures import read_signature
from deploy.images.variants import CPU
from tests.bundles import null_bundle
from tests.deploy.docker.images import tar_of
from tests.names import own_name
from toolchain.errors import DockerError
from toolchain.records.bundle import Bundle

LIMIT_BYTES = 260_000_000
# Saves an IR with the trimmed OpenVINO, loads it as the engine does, and decodes both kinds of picture.
LOADS = """
import io, sys, numpy as np, openvino as ov, PIL.Image as pil
from openvino import opset13 as op
x = op.parameter([-1, 3, 8, 8], np.float32)
y = op.convolution(x, op.constant(np.ones((4, 3, 3, 3), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])
ov.save_model(ov.Model([y], [x], 'm'), '/tmp/m.xml')
core = ov.Core()
print(core.available_devices, core.compile_model('/tmp/m.xml', 'CPU')(np.ones((2, 3, 8, 8), np.float32))[0][0, 0, 0, 0])
for kind in ('JPEG', 'PNG'):
    held = io.BytesIO()
    pil.new('RGB', (5, 4)).save(held, kind)
    print(np.asarray(pil.open(held)).shape)
print([name for name in sys.modules if 'telemetry' in name])
"""


def python_in(image: BuiltImage, code: str) -> str:
    command = [client_command(), "run", "-i", "--rm", *SANDBOX, "--entrypoint=python3", image.tag, "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout


def test_the_default_tag_is_one_that_docker_takes(tmp_path: Path) -> None:
    assert default_tag(null_bundle(tmp_path / "b", release="2026.11+x", name="My Net")) == "edge-my-net:2026.11-x-null"


def test_only_the_runtime_and_the_records_go_in() -> None:
    tops = {"/".join(file.parts[:2]) for file in app_files()}
    assert tops == {
        "deploy/__init__.py", "deploy/runtime", "toolchain/__init__.py", "toolchain/errors.py", "toolchain/records",
    }  # fmt: skip


def test_the_context_is_the_same_on_every_machine(tmp_path: Path, bundle: Bundle) -> None:
    wheels, context = tmp_path / "wheels", tmp_path / "context"
    wheels.mkdir()
    (wheels / "a.whl").touch(mode=0o600)
    context.mkdir()
    write_context(context, bundle, wheels, CPU)
    files = [path for path in context.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert {path.stat().st_mtime for path in files} == {0}
    assert {path.relative_to(context).parts[0] for path in files} == {"Dockerfile", "making", "wheels", "app", "bundle"}


@pytest.mark.docker
def test_the_image_is_small_and_its_last_layer_is_the_model(
    image: BuiltImage, engine: DockerClient, bundle: Bundle
) -> None:
    assert image.size_bytes <= LIMIT_BYTES
    layers = [layer for layer in engine.images.get(image.id).history() if layer["Size"]]
    assert layers[0]["Size"] == sum(path.stat().st_size for path in bundle.folder.iterdir())


@pytest.mark.docker
def test_the_image_holds_what_it_needs_and_nothing_that_makes_models(image: BuiltImage) -> None:
    found = python_in(
        image, "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    )
    assert found.split() == [
        *(
            "cffi",
            "hpack",
            "httptools",
            "mlcommons_loadgen",
            "msgspec",
            "numpy",
            "openvino",
            "pillow",
            "prometheus_client",
            "protobuf",
            "pycparser",
            "pynacl",
        ),
    ]


@pytest.mark.docker
def test_the_trimmed_openvino_loads_an_ir_and_pictures_are_decoded(image: BuiltImage) -> None:
    assert python_in(image, LOADS).splitlines() == ["['CPU'] 27.0", "(4, 5, 3)", "(4, 5, 3)", "[]"]


@pytest.mark.docker
def test_it_runs_as_nobody_and_writes_no_byte_code(image: BuiltImage) -> None:
    code = "import os, sys; print(os.getuid(), sys.dont_write_bytecode, os.path.exists('/bin/sh'))"
    assert python_in(image, code).split()[:2] == ["10001", "True"]


@pytest.mark.docker
def test_nothing_changed_nothing_built(image: BuiltImage, bundle: Bundle) -> None:
    again = build_image(bundle, image.tag)
    assert (again.id, again.built) == (image.id, False)


@pytest.mark.docker
def test_what_carries_the_tag_and_the_labels_of_an_image_is_not_signed_for_them(
    engine: DockerClient, image: BuiltImage, bundle: Bundle
) -> None:
    """Somebody else loaded it; what is signed is only what this run built."""
    tag = own_name("edge-test-labels") + ":1"
    container = engine.containers.create(image.tag)
    container.put_archive("/bundle", tar_of({"more": b"x"}))
    foreign = container.commit(*tag.split(":"))
    container.remove()
    try:
        labels = engine.images.get(tag).labels
        assert (foreign.id != image.id, labels) == (True, engine.images.get(image.tag).labels)
        built = build_image(bundle, tag)
        assert (built.id, built.built) == (image.id, True)
        assert read_signature(read_content(foreign).config) == b""
        assert read_signature(image.id)
    finally:
        engine.images.remove(tag)
        engine.images.remove(str(foreign.id))


@pytest.mark.docker
def test_the_manifest_is_read_out_of_the_image(image: BuiltImage, bundle: Bundle) -> None:
    assert image_manifest(image.tag) == bundle.manifest


@pytest.mark.docker
def test_a_missing_image_is_named() -> None:
    with pytest.raises(DockerError, match=r"^edge-none:1: no such image on this engine; build it: toolchain image$"):
        image_manifest("edge-none:1")
