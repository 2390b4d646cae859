"""What is refused before any training, with the model as it came."""

from pathlib import Path

import pytest

from tests.job.test_job import built, folder, recipe
from toolchain.build.pipeline import build
from toolchain.errors import BackendError, ExportError, StepError

__all__ = ["folder"]  # the fixture
TRAINING = "[[step]]\nfinetune = { epochs = 1, batch_size = 8 }\n[build]\nmax_accuracy_loss = 100.0\n"
FORWARD = "        return self.head(self.conv(x).relu().mean((2, 3)))"


def refused(place: Path, kind: type[Exception], messages: list[str]) -> str:
    """The one line of a build, which must not have begun to train."""
    with pytest.raises(kind) as error:
        build(place, "null", None)
    assert not [text for text in messages if text.startswith("step 1/1")]
    assert "\n" not in str(error.value)
    return str(error.value)


def write_forward(folder: Path, *lines: str) -> None:
    nets = folder / "nets.py"
    text = nets.read_text()
    assert FORWARD in text
    nets.write_text(text.replace(FORWARD, "\n".join(f"        {line}" for line in lines)))


def test_a_model_that_cannot_be_exported_is_refused_before_training(folder: Path, messages: list[str]) -> None:
    write_forward(folder, "x = self.conv(x).mean((2, 3))", "x = x if x.sum() > 1e9 else x + 0", "return self.head(x)")
    line = refused(recipe(folder, TRAINING), ExportError, messages)
    assert "`x = x if x.sum() > 1e9 else x + 0`: the model cannot be exported: control flow that depends on" in line
    kept = Path(line.rpartition("traceback: ")[2])
    assert kept.is_relative_to(folder / "home" / "tracebacks")
    assert "Traceback (most recent call last)" in kept.read_text()


def test_a_model_that_answers_otherwise_when_exported_is_refused_before_training(
    folder: Path, messages: list[str]
) -> None:
    write_forward(folder, "x = self.conv(x).mean((2, 3))", "return self.head(x * float(x.numpy(force=True).max()))")
    assert "cannot be exported" in refused(recipe(folder, TRAINING), ExportError, messages)


def test_a_target_that_would_not_take_the_graph_says_so_before_training(
    folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: object) -> None:
        raise RuntimeError("no kernel for node_conv")

    monkeypatch.setattr("toolchain.backends.null.check", check)
    line = refused(recipe(folder, TRAINING), BackendError, messages)
    assert line.startswith("target null: RuntimeError: no kernel for node_conv; choose another --target; traceback: ")


@pytest.mark.slow
def test_a_rehearsed_export_says_what_it_took_and_is_kept(folder: Path, messages: list[str]) -> None:
    place = recipe(folder, TRAINING)
    built(place, "null")
    assert [text for text in messages if text.startswith("  can be exported to null: known in ")]
    messages.clear()
    built(place, "null")
    assert "export: dry run before training: unchanged" in messages


def test_a_library_that_fails_in_a_step_is_one_line(
    folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("integer division or modulo by zero")

    monkeypatch.setattr("toolchain.compress.steps.prune_channels.trace_groups", fail)
    line = refused(recipe(folder, "[[step]]\nprune_channels = { ratio = 0.5 }\n"), StepError, messages)
    assert "small.toml: step 1, prune_channels: ZeroDivisionError: integer division or modulo by zero; remove" in line
