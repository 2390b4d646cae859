import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, tiny
from toolchain.compress.serialization import load_compressed, save_compressed, weights_digest
from toolchain.compress.step import CompressedModel, Quantization
from toolchain.compress.steps.quantize import Quantize
from toolchain.errors import ModelError, RecipeError


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_compressed(path)
    return str(error.value)


def test_a_model_comes_back_whole_with_its_requested_precisions_and_history(tmp_path: Path) -> None:
    model, path = CompressedModel(tiny(), Quantization(samples=12), ({"epoch": 1.0},)), tmp_path / "cache" / "net.pt"
    save_compressed(model, path)
    found = load_compressed(path)
    assert (found.quantization, found.history) == (model.quantization, model.history)
    assert weights_digest(found.module) == weights_digest(model.module)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_model_that_cannot_be_trusted_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    assert refusal(path) == f"{path}: no complete saved model here; build again: toolchain build"
    save_compressed(CompressedModel(tiny()), path)
    path.chmod(0o666)
    assert refusal(path).startswith(f"{path}: other users could have written it, so it is not loaded; delete it")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert refusal(path).startswith(f"{path}: changed since it was saved (digest differs); delete it")


def test_a_users_own_class_must_be_imported_before_it_is_loaded(tmp_path: Path) -> None:
    own = ModuleType("user_file_of_a_test")
    exec("from torch import nn\nclass Own(nn.Linear):\n    pass\n", own.__dict__)
    sys.modules[own.__name__] = own
    save_compressed(CompressedModel(own.Own(2, 2)), tmp_path / "net.pt")
    assert load_compressed(tmp_path / "net.pt").module.out_features == 2
    del sys.modules[own.__name__]
    assert "the model's own code cannot be imported (No module named 'user_file_of_a_test')" in refusal(
        tmp_path / "net.pt"
    )


def test_a_module_that_cannot_be_pickled_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.activation = lambda x: x
    with pytest.raises(
        ModelError, match=r"the model cannot be saved between steps: .*; define its classes at the top le"
    ):
        save_compressed(CompressedModel(model), tmp_path / "net.pt")
    assert not list(tmp_path.iterdir())


def test_the_digest_of_weights_sees_every_bit_and_name() -> None:
    changed = tiny()
    changed.head.bias.data[0] += 1e-7
    assert len({weights_digest(one) for one in (tiny(), changed, nn.Sequential(tiny()), tiny().bfloat16())}) == 4
    assert weights_digest(tiny().to(memory_format=torch.channels_last)) == weights_digest(tiny())


def test_quantize_keeps_the_steps_contract(tmp_path: Path) -> None:
    keeps_the_contract("quantize", Quantize(samples=40), tmp_path)


def test_quantize_only_records_what_is_requested(tmp_path: Path) -> None:
    module = tiny()
    after = Quantize(40, "performance", "off", True).apply(CompressedModel(module), context(tmp_path))
    assert after.module is module
    assert after.quantization == Quantization(40, "performance", "off", True)
    with pytest.raises(RecipeError, match="the model is quantized already; one quantize step is enough"):
        Quantize().apply(after, context(tmp_path))
