"""The record in a weights file is data: bounded, checked, and refused in one line."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from toolchain.errors import RecordError
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import KEY, Structure, Weights, read_metadata, read_weights, require_weights

RECORD = Weights(
    *("cifar:resnet8", {}, 10, "made", Preprocessing(32, 32), "cifar10", 0, (), Structure(), 0.5, 10, 1, 1),
    *({}, "toolchain weights made.toml --out=w.safetensors"),
)


def file(folder: Path, **changes: Any) -> Path:
    record = json.loads(msgspec.json.encode(RECORD)) | changes
    save_file({"a": np.zeros(3, np.float32)}, folder / "w.safetensors", {KEY: json.dumps(record)})
    return folder / "w.safetensors"


def refusal(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        require_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_weights(file(tmp_path)) == RECORD


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    assert "Weights format 5; this toolchain reads 1 to 4; update the toolchain" in refusal(file(tmp_path, format=5))
    assert "Weights format None" in refusal(file(tmp_path, format=None))


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"layers": {"fc": {"in_features": -1}}}, ">= 0"),
        ({"layers": {"fc": {"in_features": 1 << 40}}}, "<= 1048576"),
        ({"layers": {"fc": {"in_features": "__import__('os')"}}}, "got `str`"),
        ({"tensors": {"fc.weight": [1] * 9}}, "length <= 8"),
        ({"identity": ["a" * 400]}, "length <= 300"),
        ({"identity": ["a"] * 10_001}, "length <= 10000"),
        ({"learned": {"weight_bits": 99, "activation_bits": 8, "keep_ends": True, "learned_scales": True}}, "<= 16"),
    ],
)
def test_an_invalid_structure_is_refused(structure: dict[str, Any], words: str, tmp_path: Path) -> None:
    text = refusal(file(tmp_path, structure=structure))
    assert words in text
    assert text.startswith(f"{tmp_path}/w.safetensors: ")


def test_a_file_without_a_record_was_not_written_by_the_toolchain(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path)
    assert (read_metadata(path), read_weights(path)) == ({}, None)
    assert "contains no record; expected a file written by `toolchain weights`" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello" * 99, (1 << 60).to_bytes(8, "little") + b"{}", b"\2" + b"\0" * 7 + b"[]"]
)
def test_a_file_that_is_not_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert "not a complete .safetensors file" in refusal(tmp_path / "w.safetensors")
