"""What becomes of an exception of a library."""

import errno
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from toolchain.cli.parser import run
from toolchain.errors import BackendError, StepError
from toolchain.failures import describe_error, explain_failure
from toolchain.models.failing_layer import find_failing_layer

SAID: list[BaseException] = []


def build() -> None:
    """Raise what the test says."""
    raise SAID[-1]


def ran(error: BaseException) -> int:
    SAID.append(error)
    return run({"build": build}, ["build"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TOOLCHAIN_DEBUG", raising=False)
    return tmp_path / "home"


def test_an_exception_that_nobody_explained_is_one_line_and_a_file(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [ran(ZeroDivisionError("integer division\nby zero")) for _ in range(2)] == [1, 1]
    first = capsys.readouterr().err.splitlines(keepends=True)[0]
    (kept,) = (home / "tracebacks").iterdir()
    assert first == (
        "toolchain: ZeroDivisionError: integer division; this is a fault of the toolchain, please report it; "
        f"traceback: {kept}\n"
    )
    assert "Traceback (most recent call last)" in kept.read_text() and "raise SAID[-1]" in kept.read_text()


def test_a_file_that_the_system_refuses_is_no_fault_of_the_toolchain(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(OSError(errno.ENAMETOOLONG, "File name too long", "x.toml")) == 1
    assert capsys.readouterr().err.startswith("toolchain: x.toml: File name too long; traceback: ")


def test_an_interrupt_and_a_wish_to_see_everything_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(KeyboardInterrupt()) == 130
    monkeypatch.setenv("TOOLCHAIN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        ran(ZeroDivisionError())


def test_a_traceback_that_cannot_be_kept_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("a file where the folder would be")
    assert ran(ValueError("x")) == 1
    assert "traceback: not kept (" in capsys.readouterr().err


def test_what_a_library_raises_names_what_where_why_and_the_cure(home: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(7, -1)

    whole = nn.Sequential(nn.Identity(), nn.Sequential(Broken()))
    with pytest.raises(StepError) as error, explain_failure(StepError, "step", "remove it", find_failing_layer):
        whole(torch.zeros(2, 3))
    (kept,) = (home / "tracebacks").iterdir()
    assert str(error.value) == (
        "step in layer '1.0': RuntimeError: shape '[7, -1]' is invalid for input of size 6; remove it; "
        f"traceback: {kept}"
    )


def test_errors_of_ours_and_a_full_disk_pass() -> None:
    for passed in (BackendError("ours"), OSError(errno.ENOSPC, "No space left on device")):
        with pytest.raises(type(passed)) as error, explain_failure(StepError, "step", "remove it"):
            raise passed
        assert error.value is passed


def test_the_line_that_says_something_is_taken_and_shortened() -> None:
    text = "Exception from src/onnx.cpp:12:\nCheck 'ok' failed at src/core.cpp:3:\nno conversion for Foo-1\nmore"
    assert describe_error(RuntimeError(text)) == "RuntimeError: no conversion for Foo-1"
    assert describe_error(RuntimeError()) == "RuntimeError"
    assert len(describe_error(RuntimeError("x" * 5000))) < 400
