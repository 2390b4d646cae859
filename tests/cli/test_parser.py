"""The strict reader: what a command gets for what was typed, and what is refused before anything runs."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain import __version__
from toolchain.cli.parser import run
from toolchain.errors import RecordError

CALLS: list[tuple[object, ...]] = []


def build(
    recipe: Path, target: str = "openvino", release: str | None = None, port: int = 8080, loss: float = 0.5
) -> None:
    """Build a recipe into a bundle.

    Takes minutes the first time.

    Args:
        recipe: the recipe's file
        target: what it is built for,
            one of many
    """
    CALLS.append((recipe, target, release, port, loss))


def stop(name: str = "", *, dry_run: bool = False, wait: bool = True) -> None:
    """Stop a container."""
    CALLS.append((name, dry_run, wait))


def show(kind: str = "all", *places: Path) -> None:
    """Show bundles."""
    CALLS.append((kind, *places))


def fetch(name: str) -> None:
    """Fetch a data set."""
    CALLS.append((name,))


def fails() -> None:
    """Fails."""
    raise RecordError("x.json: not a Manifest; build it again")


def interrupted() -> None:
    """Is interrupted."""
    raise KeyboardInterrupt


def choose(target: Literal["openvino", "null"] = "openvino", *, kinds: tuple[Literal["a", "b"], ...] = ("a",)) -> None:
    """Choose words of a list. For all
    that matters, wisely.

    Then go on.
    """
    CALLS.append((target, kinds))


def full() -> None:
    """Fills the disk."""
    raise OSError(28, "No space left on device", "/x/y")


COMMANDS = {
    "build": build,
    "stop": stop,
    "show": show,
    "data": {"fetch": fetch},
    "fails": fails,
    "interrupted": interrupted,
    "full": full,
    "choose": choose,
    "choose twice": fetch,
}


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def called(*argv: str) -> tuple[object, ...]:
    assert run(COMMANDS, argv) == 0
    (call,) = CALLS
    return call


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that is printed; nothing ran."""
    assert run(COMMANDS, argv) == 2
    assert not CALLS
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.rstrip("\n")


@pytest.mark.parametrize(
    "text", ["1.10", "1e10", "12e4567", "None", "[1]", "a b'c\"d\n", "0x10", "True", "-", "-1", ""]
)
def test_text_values_stay_as_typed(text: str) -> None:
    assert called("build", "r.toml", f"--release={text}") == (Path("r.toml"), "openvino", text, 8080, 0.5)


@given(text=st.text().filter(lambda text: "\0" not in text))
def test_any_text_that_argv_can_hold_arrives_unchanged(text: str) -> None:
    CALLS.clear()
    assert called("build", f"--release={text}", "--", "r.toml")[2] == text
    CALLS.clear()
    assert called("show", "--", text)[:2] == (text,)


@pytest.mark.parametrize("text", ["1.10", "-", "-1", "a=b"])
def test_a_value_may_follow_its_flag_as_a_separate_word(text: str) -> None:
    assert called("build", "r.toml", "--release", text)[2] == text


def test_values_have_the_types_of_the_signature() -> None:
    assert called("build", "r.toml", "null", "--port=+81", "--loss", "-1e-3") == (
        Path("r.toml"),
        "null",
        None,
        81,
        -0.001,
    )


def test_a_positional_argument_may_be_given_as_a_flag() -> None:
    assert called("build", "--target=null", "--recipe", "r.toml")[:2] == (Path("r.toml"), "null")


@pytest.mark.parametrize(
    ("words", "dry_run", "wait"),
    [
        ([], False, True),
        (["--dry-run"], True, True),
        (["--dry_run=true"], True, True),
        (["--dry_run=false"], False, True),
        (["--no-dry-run", "--nowait"], False, False),
        (["--no-wait", "--dry-run"], True, False),
        (["--wait=False"], False, False),
    ],
)
def test_every_spelling_of_a_switch_works(words: list[str], dry_run: bool, wait: bool) -> None:
    assert called("stop", "cifar", *words) == ("cifar", dry_run, wait)


def test_remaining_words_go_to_the_variadic_parameter() -> None:
    assert called("show", "all", "a", "1.10") == ("all", Path("a"), Path("1.10"))
    CALLS.clear()
    assert called("show", "--kind=none", "--", "--a", "-b") == ("none", Path("--a"), Path("-b"))


def test_comma_separated_words_are_several_choices() -> None:
    assert called("choose", "null", "--kinds=b,a") == ("null", ("b", "a"))
    CALLS.clear()
    assert called("choose") == ("openvino", ("a",))


def test_a_group_has_its_own_commands() -> None:
    assert called("data", "fetch", "cifar10") == ("cifar10",)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("biuld r.toml", "no command 'biuld'; did you mean 'build'?; toolchain has: build, stop, show, data, "),
        ("data fetsh x", "no command 'fetsh'; did you mean 'fetch'?; toolchain data has: fetch"),
        ("--verbose", "no flag '--verbose'; toolchain has: build, "),
        ("build r.toml --relaese=1", "build: no flag '--relaese'; did you mean '--release'?; it has: --recipe, "),
        ("build r.toml -p 80", "build: no flag '-p'; it has: --recipe, --target, --release, --port, --loss"),
        ("build r.toml --port eighty", "--port: expected a whole number, got 'eighty'"),
        ("build r.toml --port=1.0", "--port: expected a whole number, got '1.0'"),
        ("build r.toml --loss=much", "--loss: expected a number, got 'much'"),
        ("build r.toml --loss=12e4567", "--loss: expected a finite number, got '12e4567'"),
        ("build r.toml --port", "--port: expected a value after it; usage: toolchain build RECIPE "),
        ("build r.toml --release --port=1", "--release: expected a value after it; usage: toolchain build "),
        ("build r.toml --port=1 --port=2", "--port: given twice; give it once"),
        ("build r.toml --recipe=s.toml", "--recipe: given twice; give it once"),
        ("build --port=1", "build: RECIPE missing; usage: toolchain build RECIPE [--target=TEXT] "),
        ("build --recipe=", "RECIPE: expected a path, got ''"),
        ("stop --dry-run=maybe", "--dry-run: expected true or false, got 'maybe'"),
        ("stop --no-wait=true", "--no-wait: takes no value; write --wait=true or --no-wait alone"),
        ("stop a b", "stop: 'b' is one word too many; usage: toolchain stop [--name=TEXT] [--dry-run] [--no-wait]"),
        ("choose openvno", "--target: expected openvino or null, got 'openvno'; did you mean 'openvino'?"),
        ("choose --kinds=a,c", "--kinds: expected a or b, got 'c'"),
        ("fails --x", "fails: no flag '--x'; it has none"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_runs(
    argv: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *argv.split()).startswith(f"toolchain: {message}")


def test_toolchain_errors_are_one_line_and_set_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, ["fails"]) == 1
    assert capsys.readouterr().err == "toolchain: x.json: not a Manifest; build it again\n"


def test_an_interruption_says_how_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, ["interrupted"]) == 130
    assert capsys.readouterr().err.strip() == "toolchain: interrupted; run the same command again to resume"


def test_a_full_disk_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, ["full"]) == 1
    message = "toolchain: /x/y: No space left on device; free some space and run the same command again to resume\n"
    assert capsys.readouterr().err == message


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, ["--version"]) == 0
    assert capsys.readouterr().out == f"toolchain {__version__}\n"


def test_a_parameter_of_an_unsupported_type_is_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(table: dict[str, int]) -> None: ...

    monkeypatch.setenv("TOOLCHAIN_DEBUG", "1")  # raw, and not as a fault in a line
    with pytest.raises(TypeError, match="wrong: table: dict"):
        run({"wrong": wrong}, ["wrong", "x"])


SCRIPT = """
import sys
from toolchain.cli.parser import run
def many() -> None:
    "Print a lot."
    for number in range(100_000):
        print(number)
status = run({"many": many}, sys.argv[1:])
assert not {"torch", "numpy", "rich"} & set(sys.modules)
assert sys.argv[1:] != ["--help"] or "fire" not in sys.modules
sys.exit(status)
"""


def test_a_closed_stdout_is_not_an_error() -> None:
    words = f"set -o pipefail; '{sys.executable}' -c '{SCRIPT}' many | head -n 1"
    ran = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("0\n", "", 141)


def test_help_imports_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, "--help"], check=True, capture_output=True)
