"""Installs wheels in the image build, drops what a container never uses, and compiles. Standard library only.

Two commands: `site WHEELS LOCK FOLDER` installs a hash-locked list with pip, run from pip's own wheel, then removes
what the lists below name; `code FOLDER` compiles our own modules. All times are set to SOURCE_DATE_EPOCH and byte code
is unchecked, so that the same input gives the same layer.
"""

import compileall
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from py_compile import PycInvalidationMode
from shutil import rmtree

# OpenVINO: libopenvino, the Intel CPU plugin, the IR front end, the bindings and tbb stay (91 of 178 MB). Removing its
# tools removes the only user of openvino_telemetry, which would call home.
OPENVINO = (
    "openvino/libs/*_gpu_plugin.so",
    "openvino/libs/*_npu_plugin.so",
    "openvino/libs/*_auto_plugin.so",
    "openvino/libs/*_auto_batch_plugin.so",
    "openvino/libs/*_hetero_plugin.so",
    "openvino/libs/libopenvino_c.so*",
    "openvino/libs/libopenvino_gguf_frontend.so*",
    "openvino/libs/libopenvino_jax_frontend.so*",
    "openvino/libs/libopenvino_onnx_frontend.so*",
    "openvino/libs/libopenvino_paddle_frontend.so*",
    "openvino/libs/libopenvino_pytorch_frontend.so*",
    "openvino/libs/libopenvino_tensorflow*_frontend.so*",
    "openvino/libs/cache.json",  # the GPU plugin's kernel choices
    "openvino/libs/*.pc",
    "openvino/frontend/*/",
    "openvino/cmake",
    "openvino/include",
    "openvino/tools",
    "openvino/torch",
    "openvino_telemetry*",
)
NUMPY = (
    "numpy/distutils",
    "numpy/f2py",
    "numpy/_pyinstaller",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/random/lib",
)
# Pillow: deploy/runtime/decoding/formats.py has what is served; _imaging is linked with openjpeg and xcb: they stay.
PILLOW = (
    *(f"PIL/{name}.*.so" for name in ("_avif", "_imagingft", "_imagingcms", "_imagingtk")),
    *(f"pillow.libs/lib{name}-*" for name in ("avif", "freetype", "harfbuzz", "lcms2", "png16")),
    "pillow.libs/libbrotli*",
)
ANYWHERE = ("bin", "**/tests", "**/*.pyi", "**/*.pxd", "**/*.pyx", "**/*.c", "**/*.h", "**/*.cpp", "**/*.a")
DROPPED = OPENVINO + NUMPY + PILLOW + ANYWHERE


def install(wheels: Path, lock: Path, folder: Path) -> None:
    """Install from `wheels` alone; pip refuses a wheel whose hash is not in the lock."""
    pip = next(wheels.glob("pip-*.whl"))
    options = [
        "--no-index",
        "--no-deps",
        "--no-compile",
        "--no-cache-dir",
        "--require-hashes",
        "--disable-pip-version-check",
    ]
    command = [sys.executable, f"{pip}/pip", "install", "-q", *options]
    subprocess.run(
        [
            *command,
            "--root-user-action=ignore",
            f"--find-links={wheels}",
            f"--target={folder}",
            f"--requirement={lock}",
        ],
        check=True,
    )


def drop(folder: Path, patterns: Iterable[str] = DROPPED) -> list[Path]:
    """Remove what the patterns match; returns the outermost removed paths."""
    dropped = []
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                if path.name == "__pycache__":
                    continue
                rmtree(path)
            else:
                path.unlink()
            dropped.append(path)
    return dropped


def compile_tree(folder: Path) -> None:
    """Write byte code for every module: a container with a read-only root could not write its own."""
    mode = PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(folder, quiet=1, invalidation_mode=mode, workers=1):
        raise SystemExit(f"{folder}: a module does not compile")


def set_times(folder: Path, epoch_s: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)


def main(arguments: Sequence[str]) -> None:
    """The last argument is the folder to create; the layer's root is /out, so the times of all its folders are set."""
    verb, *paths = arguments
    folder = Path(paths[-1])
    if verb == "site":
        install(Path(paths[0]), Path(paths[1]), folder)
        drop(folder)
    compile_tree(folder)
    set_times(Path("/out"), int(os.environ.get("SOURCE_DATE_EPOCH", "0")))


if __name__ == "__main__":
    main(sys.argv[1:])
