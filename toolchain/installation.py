"""How this toolchain was installed, and so what a person types to get what is missing."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

PACKAGE = "edge-toolchain"
ROOT = Path(__file__).parents[1]  # of a checkout, or site-packages
# What each extra brings, by the name that is imported; requirements/*.in have the packages.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "cpu": (
        *("torch", "torchvision", "torch_pruning", "nncf", "openvino", "onnx", "onnxruntime", "onnxscript"),
        "safetensors",
    ),
    "gpu": ("tensorrt_rtx_bindings", "modelopt", "onnx_graphsurgeon"),
    "tracing": ("opentelemetry",),
    "search": ("optuna",),
    "mlflow": ("mlflow",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
}


def is_checkout() -> bool:
    """Whether this runs from the repository, where make sets everything up."""
    return (ROOT / "Makefile").is_file() and (ROOT / "requirements").is_dir()


def install_command(extra: str) -> str:
    """The command that installs an extra into the environment in which this runs."""
    if is_checkout():
        return "make setup"
    return f"{quote(sys.executable)} -m pip install '{PACKAGE}[{extra}]'"


def engine_command() -> str:
    """The command that installs and starts a Docker Engine on Debian or Ubuntu."""
    return "make setup" if is_checkout() else f"sudo bash {quote(str(ROOT / 'deploy' / 'setup.sh'))} engine"


def explain_missing(*modules: str) -> str | None:
    """Which of these modules are not installed, and the command that installs them; None when all are."""
    absent = [module for module in modules if find_spec(module) is None]
    if not absent:
        return None
    extra = next((extra for extra, held in EXTRAS.items() if not {*held}.isdisjoint(absent)), "cpu")
    return f"not installed: {', '.join(absent)}; run {install_command(extra)}"


def explain_import(error: ModuleNotFoundError) -> str | None:
    """The line for a library that only an extra brings; None for any other module."""
    module = (error.name or "").partition(".")[0]
    return explain_missing(module) if any(module in held for held in EXTRAS.values()) else None
