"""Where the packages' messages go: nowhere from a library, to stderr from a command."""

import json
import logging
import subprocess
import sys

import pytest

from toolchain.cli.console import console, log_to_stderr
from toolchain.cli.parser import run
from toolchain.errors import UsageError
from toolchain.progress import quiet
from toolchain.views.bundle import as_json

LIBRARY = """
import logging, toolchain, deploy
for name in ("toolchain.data.loading", "deploy.images.build"):
    logging.getLogger(name).warning("anything")
"""


def test_a_command_seldom_looks_for_garbage() -> None:
    program = "import gc; from toolchain.cli.console import scan_seldom; scan_seldom(); print(gc.get_threshold()[0])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 700  # Python's own


def test_a_program_that_configures_no_logging_sees_nothing() -> None:
    ran = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_a_command_prints_plain_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with console():
        logging.getLogger("toolchain.job.stages").info("export: unchanged")
        logging.getLogger("deploy.images.build").info("100% [done]")
        logging.getLogger("docker.api").info("not ours")
    logging.getLogger("toolchain.job.stages").info("after the command")
    assert capsys.readouterr() == ("", "export: unchanged\n100% [done]\n")


def test_a_server_s_words_move_no_cursor_wherever_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The holder of a lock, a label, a release's name: in messages, in errors, in the JSON of the last line."""
    words = "\x1b]0;title\x07 \x9b2J \u202egnp.exe \U000e0041"
    with console():
        logging.getLogger("deploy.servers.lock").info("taking the lock of %s", words)

    def fail() -> None:
        raise UsageError(words)

    assert run({"fail": fail}, ["fail"]) == 2
    text = as_json({"release": words})
    assert json.loads(text) == {"release": words}
    assert (text + "".join(capsys.readouterr().err.splitlines())).isprintable()


@pytest.mark.parametrize(("rank", "shown"), [("0", "epoch 1\n"), ("1", "")])
def test_under_torchrun_only_the_first_process_logs(
    rank: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    with console():
        logging.getLogger("toolchain.compress.training.loop").info("epoch 1")
    assert capsys.readouterr().err == shown


def test_a_quieted_logger_logs_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with console():
        log_to_stderr("net: %(message)s")
        with quiet("deploy.gate"):
            logging.getLogger("deploy.gate.gate").info("10 rounds")
            logging.getLogger("deploy.gate.gate").warning("warning")
        logging.getLogger("deploy.gate.gate").info("20 rounds")
    assert capsys.readouterr().err == "net: warning\nnet: 20 rounds\n"
