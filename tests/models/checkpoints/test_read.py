"""Files as trainers write them, by their content; hostile and damaged ones run nothing and end in one line."""

import argparse
import os
import pickle
import shlex
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.models import nets
from toolchain.errors import ModelError
from toolchain.models.checkpoints import read_checkpoint

STATE = nets.net().state_dict()
FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Options(dict[str, Any]):
    """As configuration libraries have: a mapping with attributes, and a state of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(options)
        self.flags = {"debug"}

    def __reduce__(self) -> tuple[Any, ...]:
        return Options, (), {"flags": self.flags}, None, iter(self.items())


class Buffered(nn.Module):
    """In a wrapper's hands, with a buffer that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.DataParallel(nets.net())
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("left", torch.arange(3), persistent=False)


class Phase(Enum):
    LAST = 3


class Evil:
    """Calls something when a pickle of it is loaded."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def same(state: Any, expected: Any = STATE) -> bool:
    return list(state) == list(expected) and all(
        torch.equal(value, expected[name]) and value.dtype == expected[name].dtype for name, value in state.items()
    )


@FORMS
def test_weights_are_read_beside_whatever_a_trainer_saved(tmp_path: Path, zipped: bool) -> None:
    trained = nets.net()
    optimizer = torch.optim.SGD(trained.parameters(), 0.1, momentum=0.9)
    content = {
        "epoch": 3,
        "state_dict": STATE,
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, folder=Path("/data"), phase=Phase.LAST, at=(1, {2, 3})),
        "best_acc1": np.float64(91.2),
        "history": np.arange(3),
        "config": Options(lr=0.1, nested=Options(depth=2)),
        "rng": torch.get_rng_state(),
        "hook": len,
    }
    torch.save(content, path := tmp_path / "model_best.pth.tar", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    assert same(read["state_dict"]) and read["epoch"] == 3


@FORMS
def test_a_whole_module_gives_its_state(tmp_path: Path, zipped: bool) -> None:
    module = Buffered()
    torch.save({"model": module, "ema": None}, path := tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)["model"]
    expected = module.state_dict()
    assert set(read) == set(expected) and same({name: read[name] for name in expected}, expected)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.uint16, torch.float8_e5m2]
)
def test_every_type_and_view_of_a_tensor_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(24).reshape(4, 6).to(dtype)
    held = {
        "whole": whole,
        "turned": whole.t(),
        "part": whole[1:3, ::2],
        "wide": whole[:1].expand(3, 6),
        "none": whole[:0],
        "one": whole[3, 5],
    }
    torch.save({"w": held, "args": argparse.Namespace()}, path := tmp_path / "w.pt")
    for name, tensor in read_checkpoint(path)["w"].items():
        assert tensor.dtype == dtype and tensor.shape == held[name].shape
        assert torch.equal(tensor.to(torch.float32), held[name].to(torch.float32))


def test_parameters_and_their_subclasses_are_read_as_tensors(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.arange(3.0))
    named = nn.Parameter(torch.arange(4.0))
    named.note = "of a trainer"  # type: ignore[attr-defined]  # any object takes attributes
    lazy = torch.arange(5.0).as_subclass(nn.Buffer)
    held = {"parameter": parameter, "named": named, "buffer": lazy}
    torch.save({"w": held, "args": argparse.Namespace()}, path := tmp_path / "w.pt")
    for name, tensor in read_checkpoint(path)["w"].items():
        assert type(tensor) is Tensor and torch.equal(tensor, held[name].detach())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w"])
def test_a_safetensors_file_is_read_under_any_name(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    assert same(OrderedDict(sorted(read_checkpoint(tmp_path / name).items())), OrderedDict(sorted(STATE.items())))


@FORMS
def test_nothing_in_a_file_is_run(tmp_path: Path, zipped: bool) -> None:
    made = tmp_path / "made"
    code = f"open({str(made)!r}, 'w')"
    attacks = [
        Evil(exec, code),
        Evil(os.system, f"touch {made}"),
        Evil(getattr, Evil(__import__, "os"), "system"),
        Evil(map, eval, [code]),
        Evil(torch._utils._rebuild_tensor_v2, Evil(eval, code), 0, (1,), (1,), False, OrderedDict()),
        Evil(torch.load, str(made)),
        Evil(pickle.loads, pickle.dumps(Evil(eval, code))),
        Evil(torch._tensor._rebuild_from_type_v2, eval, Tensor, (code,), {}),
    ]
    torch.save({"state_dict": STATE, "evil": attacks}, path := tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(path)["state_dict"])
    torch.save({f"w{n}": attack for n, attack in enumerate(attacks)}, path, _use_new_zipfile_serialization=zipped)
    assert not any(isinstance(value, Tensor) for value in read_checkpoint(path).values())
    assert not made.exists()


def write_pickle(path: Path, content: bytes) -> None:
    """`content` in the place of a checkpoint's pickle."""
    torch.save(STATE, buffer := BytesIO())
    with zipfile.ZipFile(buffer) as archive, zipfile.ZipFile(path, "w") as written:
        for name in archive.namelist():
            written.writestr(name, content if name.endswith("data.pkl") else archive.read(name))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cos\nsystem\n}X\x08\x00\x00\x00__init__cos\nsystem\nsb.",  # attributes of a class
        b"\x80\x02cos\nsystem\nN}X\x08\x00\x00\x00__call__cos\nsystem\ns\x86b.",  # slots of a class
        b"\x80\x02\x82\x01.",  # the registry of extensions
        b"\x80\x02K\x01)R.",  # a call of a number
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of 64 GB
        b"\x80\x02X\xff\xff\xff\x7f.",  # a string of 2 GB
        b"\x80\x02X\x07\x00\x00\x00storageQ.",  # a reference that is none
        b"",
    ],
)
def test_a_pickle_that_cannot_be_is_damaged(tmp_path: Path, content: bytes) -> None:
    write_pickle(path := tmp_path / "w.pt", content)
    assert refusal(path).endswith("incomplete or damaged checkpoint file; copy it again")


def test_a_tensor_beyond_its_values_is_damaged(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4), "args": argparse.Namespace()}, buffer := BytesIO())
    with zipfile.ZipFile(buffer) as archive:
        content = archive.read("archive/data.pkl")
    for old, new in ((b"K\x04\x85", b"K\x08\x85"), (b"cpuq", b"cpuq")):
        assert old in content
        with zipfile.ZipFile(path := tmp_path / "w.pt", "w") as written:
            written.writestr("archive/data.pkl", content.replace(old, new))
            written.writestr("archive/data/0", bytes(16 if old != new else 12))
        assert "damaged" in refusal(path)


def test_files_that_are_no_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(np.random.default_rng(0).bytes(999))
    assert "no checkpoint: starts with b'" in refusal(path) and "code" not in refusal(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert refusal(path).endswith("a Git LFS pointer instead of the file; fetch it: git lfs pull")
    path.write_bytes(b"\n<!DOCTYPE html>")
    assert refusal(path).endswith("a web page instead of the file; download it again")
    path.write_bytes(b"")
    assert "starts with b''" in refusal(path)
    path.write_bytes(pickle.dumps({"w": 1}))
    assert "expected a file that torch.save or safetensors wrote" in refusal(path)
    np.savez(path.with_suffix(".npz"), w=np.zeros(3))
    assert "a zip archive without data.pkl" in refusal(path.with_suffix(".npz"))
    assert "no such file" in refusal(tmp_path / "none.pt")
    path = tmp_path / "junk.safetensors"
    path.write_bytes(b"hello" * 99)
    assert "not a complete .safetensors file" in refusal(path)


@FORMS
def test_a_file_that_was_cut_is_damaged(tmp_path: Path, zipped: bool) -> None:
    content = {"w": STATE, "args": argparse.Namespace()}
    torch.save(content, path := tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "damaged" in refusal(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_line_that_converts_a_torchscript_program_works(tmp_path: Path) -> None:
    path = tmp_path / "it's a $(program).pt"
    torch.jit.save(torch.jit.script(module := nets.net()), path)
    text = refusal(path)
    # as it is pasted, and by the Python that has torch
    subprocess.run(text[text.index(f"{shlex.quote(sys.executable)} -c") :], shell=True, check=True)
    assert same(read_checkpoint(tmp_path / "it's a $(program)-weights.pt"), module.state_dict())
