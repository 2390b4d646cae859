"""What is read of a step's source without importing it is what its class has."""

from importlib import import_module

import msgspec
import pytest

from toolchain.compress import TABLE, check_step_names
from toolchain.compress.option_names import option_names
from toolchain.errors import RecipeError


@pytest.mark.parametrize("step", TABLE)
def test_the_options_read_from_the_source_are_those_of_the_class(step: str) -> None:
    module, _, kind = TABLE[step].partition(":")
    fields = msgspec.structs.fields(getattr(import_module(module), kind))
    assert option_names(module, kind) == tuple(field.name for field in fields)


def test_a_step_or_option_that_does_not_exist_is_named_with_its_place() -> None:
    check_step_names(({"finetune": {"epochs": 1}},), "r.toml")
    with pytest.raises(RecipeError, match=r"^r.toml: step 2, finetune: no option 'epoch'; it has: epochs, lr, "):
        check_step_names(({"qat": {}}, {"finetune": {"epoch": 1}}), "r.toml")
    with pytest.raises(RecipeError, match=r"^r.toml: step 1: no step 'fintune'; did you mean finetune\?"):
        check_step_names(({"fintune": {}},), "r.toml")
