"""Checkpoints as trainers save them, and files that only look like one."""

import argparse
import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.intake.drawn.recipes import IntakeCase, write_recipe
from toolchain.errors import ModelError
from toolchain.models.checkpoints.read import PICKLE, read_checkpoint

ARGUMENTS = argparse.Namespace(lr=0.1, epochs=3, arch="net")


class Marker:
    """A pickle of it makes a file when something runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def draw_checkpoints(base: Path, module: nn.Module) -> list[IntakeCase]:
    state = module.state_dict()
    raw = {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in state.items()}
    raw = {name: value.abs() if "running_var" in name else value for name, value in raw.items()}

    def under(prefix: str, tensors: dict[str, Any] = state) -> dict[str, Any]:
        return {prefix + name: tensor for name, tensor in tensors.items()}

    trained = {
        "epoch": 3,
        "arch": "net",
        "state_dict": state,
        "best_acc1": torch.tensor(91.2),
        "optimizer": {"state": {}},
    }
    lightning = {
        "state_dict": under("model.") | {"criterion.weight": torch.ones(4)},
        "hyper_parameters": ARGUMENTS,
        "pytorch-lightning_version": "2.5",
    }
    files: dict[str, Any] = {
        "plain.pth": state,
        "compiled-ddp.pt": under("_orig_mod.module."),
        "ddp-compiled.pt": under("module._orig_mod."),
        "lightning.ckpt": lightning,
        "imagenet.pth.tar": trained | {"state_dict": under("module.")},
        "namespace.pth": trained | {"args": ARGUMENTS},
        "numpy-scalar.pth": trained | {"best_acc1": np.float64(91.2)},
        "timm-ema.pth.tar": trained | {"state_dict": raw, "state_dict_ema": state, "args": ARGUMENTS},
        "torchvision-ema.pth": {"model": raw, "model_ema": under("module.") | {"n_averaged": torch.tensor(9)}},
        "ema-only.pth": {"epoch": 3, "ema": state},
        "half.pt": {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        "whole.pt": module,
        "yolo.pt": {"epoch": -1, "model": module, "ema": None, "date": "today"},
        "hostile.pt": trained | {"note": Marker(base / "ran")},
    }
    cases = [_save(base, name, content) for name, content in files.items()]
    torch.save(trained | {"args": ARGUMENTS}, base / "legacy.pth", _use_new_zipfile_serialization=False)
    cases.append(_name_weights(base, IntakeCase("w-legacy", "builds"), "legacy.pth"))
    return [*cases, *_draw_program(base, module), *_draw_refused(base, state)]


def _draw_program(base: Path, module: nn.Module) -> list[IntakeCase]:
    """A TorchScript program is refused; what the line of the refusal converts it to is built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's end
        torch.jit.save(torch.jit.script(module), base / "program.pt")
    refused = _name_weights(base, IntakeCase("w-program", "refused", "a TorchScript program"), "program.pt")
    try:
        read_checkpoint(base / "program.pt")
    except ModelError as error:
        (command,) = re.findall(r"those \(program-weights\.pt\): (.+)$", str(error))
        subprocess.run(command, shell=True, check=False, stderr=subprocess.DEVNULL)
    return [refused, _name_weights(base, IntakeCase("w-program-converted", "builds"), "program-weights.pt")]


def _draw_refused(base: Path, state: dict[str, Any]) -> list[IntakeCase]:
    torch.save({"student": state, "teacher": state}, base / "pair.pt")
    torch.save({"model": {f"{name}.w": tensor for name, tensor in state.items()}}, base / "renamed.pt")
    whole = (base / "whole.pt").read_bytes()
    contents = {
        "random.pt": (np.random.default_rng(0).bytes(4096), "no checkpoint"),
        "pointer.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        "page.pth": (b"<!DOCTYPE html>\n<title>Sign in</title>", "a web page"),
        "empty.pt": (b"", "no checkpoint"),
        "cut.pt": (whole[: len(whole) // 2], "damaged"),
        "cut-legacy.pt": (PICKLE + b"\x80\x02", "damaged"),
    }
    for name, (content, _) in contents.items():
        (base / name).write_bytes(content)
    says = {name: says for name, (_, says) in contents.items()} | {
        "pair.pt": "weights_key",
        "renamed.pt": "does not fit",
        "absent.pt": "no such file",
    }
    return [_name_weights(base, IntakeCase(f"w-{Path(name).stem}", "refused", say), name) for name, say in says.items()]


def _save(base: Path, name: str, content: Any) -> IntakeCase:
    torch.save(content, base / name)
    return _name_weights(base, IntakeCase(f"w-{name.partition('.')[0]}", "builds"), name)


def _name_weights(base: Path, case: IntakeCase, name: str) -> IntakeCase:
    return write_recipe(base, case, f'source = "net.py:build"\nweights = "{name}"')
