"""What --help prints: the overview under its headings, and a command with its parameters and choices."""

import pytest

import toolchain.cli
from tests.cli.test_parser import CALLS, COMMANDS, build, fetch
from toolchain.cli.parser import run
from toolchain.cli.signature import Command, command_from


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_the_overview_has_a_line_for_each_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, argv) == 0
    text = capsys.readouterr().out
    assert "  build         Build a recipe into a bundle.\n" in text
    assert "  data fetch    Fetch a data set.\n" in text


def test_help_of_a_command_has_usage_description_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    CALLS.clear()
    assert run(COMMANDS, ["build", "r.toml", "--port=x", "--help"]) == 0
    assert not CALLS
    assert capsys.readouterr().out == (
        "usage: toolchain build RECIPE [--target=TEXT] [--release=TEXT] [--port=NUMBER] [--loss=NUMBER]\n\n"
        "Build a recipe into a bundle.\n\n"
        "Takes minutes the first time.\n\n"
        "  RECIPE          the recipe's file\n"
        "  --target=TEXT   what it is built for, one of many (default: openvino)\n"
        "  --release=TEXT\n"
        "  --port=NUMBER   (default: 8080)\n"
        "  --loss=NUMBER   (default: 0.5)\n"
    )


def test_help_lists_choices_whole_sentences_and_longer_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, ["choose", "--help"]) == 0
    assert capsys.readouterr().out == (
        "usage: toolchain choose [--target=openvino|null] [--kinds=a|b[,...]]\n\n"
        "Choose words of a list.\n\n"
        "For all that matters, wisely.\n\nThen go on.\n\n"
        "  --target=openvino|null  (default: openvino)\n"
        "  --kinds=a|b[,...]       (default: a)\n\n"
        "See also: toolchain choose twice\n"
    )


def test_the_overview_groups_commands_by_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, [], sections={"First steps": {"build": build}, "Others": {"data": {"fetch": fetch}}}) == 0
    text = "First steps\n  build       Build a recipe into a bundle.\n\nOthers\n  data fetch  Fetch a data set.\n"
    assert text in capsys.readouterr().out


def all_commands() -> list[Command]:
    groups = {word: entry if isinstance(entry, dict) else {"": entry} for word, entry in toolchain.cli.COMMANDS.items()}
    return [
        command_from(function, (f"{word} {inner}".strip(),), "toolchain")
        for word, group in groups.items()
        for inner, function in group.items()
    ]


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.title)
def test_every_summary_is_a_whole_sentence(command: Command) -> None:
    assert command.summary.endswith(".")
    assert len(command.summary) <= 120


def test_help_of_a_switch_that_is_on_shows_how_to_turn_it_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, ["stop", "-h"]) == 0
    assert "  --wait, --no-wait  (default: on)\n" in capsys.readouterr().out


def test_help_of_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS, ["data"]) == 0
    assert "usage: toolchain data COMMAND" in capsys.readouterr().out
