"""Which tensors of a checkpoint become the model's weights, and what is said of the rest."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolchain.errors import ModelError
from toolchain.models.checkpoints import select_weights

PATH = Path("w.pt")
MODULE = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
STATE = MODULE.state_dict()
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
WANTED = tuple(STATE)


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def check(content: Any, notes: tuple[str, ...], key: str | None = None, expected: dict[str, Tensor] = STATE) -> None:
    state, written = select_weights(content, WANTED, PATH, key)
    assert set(state) == set(expected) and all(torch.equal(state[name], expected[name]) for name in expected)
    assert written == notes


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.", "backbone.0.", "module." * 5],
)
def test_prefixes_are_stripped_until_none_is_left(prefix: str) -> None:
    check(prefixed(prefix), (f"'{prefix}' stripped",))
    check({"epoch": 1, "state_dict": prefixed(prefix)}, ("'state_dict' unwrapped", f"'{prefix}' stripped"))


def test_a_prefix_that_the_module_has_too_is_kept_or_put_before_the_names() -> None:
    wanted = tuple(prefixed("model."))
    for prefix in ("model.", "", "module.", "module.model."):
        state, _ = select_weights(prefixed(prefix), wanted, PATH)
        assert set(state) == set(wanted)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "weights", "a.b.c"])
def test_weights_are_found_under_any_key(key: str) -> None:
    content: Any = STATE
    for name in reversed(key.split(".")):
        content = {"epoch": 3, name: content, "optimizer": {"state": {}}, "best": torch.tensor(91.2)}
    check(content, (f"'{key}' unwrapped",))


def test_tensors_of_a_trainer_beside_the_module_are_left_out_and_named() -> None:
    content = {"state_dict": {**prefixed("model."), "loss.weight": torch.ones(2), "acc.total": torch.ones(1)}}
    check(content, ("'state_dict' unwrapped", "'model.' stripped", "'loss.weight', 'acc.total' left out"))


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("state_dict", "state_dict_ema"),  # timm
        ("model", "model_ema"),  # torchvision's references
        ("model", "ema"),  # YOLO
        ("state_dict", "swa_state_dict"),
        ("model", "ema.module"),  # YOLOX
    ],
)
def test_averaged_weights_are_taken_before_raw_ones_and_a_key_chooses(raw: str, averaged: str) -> None:
    outer, _, inner = averaged.partition(".")
    other: Any = {**prefixed("module.", OTHER), "n_averaged": torch.tensor(9)} if averaged == "model_ema" else OTHER
    content = {raw: STATE, outer: {inner: other} if inner else other}
    state, notes = select_weights(content, WANTED, PATH)
    assert all(torch.equal(state[name], OTHER[name]) for name in OTHER)
    assert notes[0] == f"'{averaged}' unwrapped, not '{raw}'"
    check(content, (f"'{raw}' unwrapped",), key=raw)
    assert all(torch.equal(select_weights(content, WANTED, PATH, outer)[0][name], OTHER[name]) for name in OTHER)


def test_it_is_said_once_that_averaged_weights_are_taken(messages: list[str]) -> None:
    for _ in range(2):
        select_weights({"state_dict": STATE, "state_dict_ema": OTHER}, WANTED, Path("said.pth"))
    line = "said.pth: takes 'state_dict_ema', not 'state_dict'; [model] weights_key chooses another"
    assert messages.count(line) == 1


def test_averaged_weights_beside_raw_ones_in_one_mapping_are_taken_and_a_prefix_chooses() -> None:
    content = {"state_dict": {**prefixed("model."), **prefixed("model_ema.", OTHER)}}
    state, notes = select_weights(content, WANTED, PATH)
    assert torch.equal(state["0.weight"], OTHER["0.weight"])
    assert notes[0] == "'state_dict' unwrapped, not 'state_dict.model'"
    assert torch.equal(select_weights(content, WANTED, PATH, "model")[0]["0.weight"], STATE["0.weight"])


def test_several_sets_that_fit_alike_are_refused_with_their_names() -> None:
    content = {"student": STATE, "teacher": OTHER}
    with pytest.raises(ModelError, match=r"w.pt: 2 sets of weights fit: 'student', 'teacher'; choose: \[model\] "):
        select_weights(content, WANTED, PATH)
    check(content, ("'teacher' unwrapped",), key="teacher", expected=OTHER)
    with pytest.raises(ModelError, match=r"no 'tutor', which model.weights_key names; it has: 'student', 'teacher'"):
        select_weights(content, WANTED, PATH, "tutor")


def test_weights_of_half_precision_are_said() -> None:
    half = {name: tensor.half() for name, tensor in STATE.items()}
    check(half, ("float16 weights",), expected=half)


def test_what_holds_no_tensors_is_named() -> None:
    with pytest.raises(ModelError, match="no weights: found a list; expected tensors by name"):
        select_weights([1, 2], WANTED, PATH)
    with pytest.raises(ModelError, match="no weights: found a dict with epoch, model;"):
        select_weights({"epoch": 3, "model": {}}, WANTED, PATH)


def test_where_nothing_fits_the_likeliest_is_given_without_its_prefix() -> None:
    wrong = {name.replace("3.", "head."): tensor for name, tensor in STATE.items()}
    state, notes = select_weights(
        {"optimizer": {"x": torch.ones(1)}, "model": prefixed("module.", wrong)}, WANTED, PATH
    )
    assert set(state) == set(wrong)
    assert notes == ("'model' unwrapped", "'module.' stripped")
