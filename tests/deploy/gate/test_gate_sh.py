"""gate.sh: exit status and output of a CI job. A script stands in for `toolchain`; journeys run the real one."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.house.readme import commands
from toolchain.cli import COMMANDS
from toolchain.cli.parser import Call, read

ROOT = Path(__file__).parents[3]
FAKE = """#!/bin/sh
echo "$@" >> {calls}
[ "$1" = gate ] && exit {code}
mkdir -p report && echo "### summary" > report/summary.md
"""


def run(folder: Path, code: int, *words: str, **environment: str) -> tuple[int, str, list[str]]:
    """(exit status, output, calls of toolchain)."""
    fake, calls = folder / "bin" / "toolchain", folder / "calls"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(FAKE.format(calls=calls, code=code))
    fake.chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB")}
    plain |= {"PATH": f"{fake.parent}:{os.environ['PATH']}", "REPORT": "report", **environment}
    command = [ROOT / "deploy/gate/gate.sh", *words]
    done = subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (3, 0), (2, 2), (130, 130)])
def test_a_job_fails_for_a_regression_and_only_warns_for_an_inconclusive_gate(
    tmp_path: Path, code: int, ends: int
) -> None:
    status, output, calls = run(tmp_path, code, "edge-net:2", "net", "--minutes=3")
    assert status == ends
    assert calls[0] == "gate edge-net:2 --minutes=3"
    assert ("warning: the gate is inconclusive on edge-net:2" in output) is (code == 3)
    assert calls[1:] == (["report net --out=report"] if code in (0, 1, 3) else [])


def test_github_gets_the_summary_and_its_own_kind_of_warning(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    status, output, _ = run(tmp_path, 3, "e:2", "net", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(page))
    assert status == 0
    assert "::warning::the gate is inconclusive on e:2" in output
    assert page.read_text() == "### summary\n"


def test_gitlab_keeps_exit_status_3_to_show_a_warning(tmp_path: Path) -> None:
    assert run(tmp_path, 3, "e:2", "net", INCONCLUSIVE="3")[0] == 3
    code, written, _ = run(tmp_path, 3, "e:2", "net", UNSURE="3")
    assert (code, "UNSURE is now INCONCLUSIVE" in written) == (3, True)


def test_without_arguments_the_script_prints_its_usage(tmp_path: Path) -> None:
    status, output, calls = run(tmp_path, 0, "e:2", "")
    assert (status, calls) == (2, [])
    assert output.startswith("gate.sh: expected CANDIDATE NAME [flags of toolchain gate]; or: make gate CANDIDATE=")


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_ci_examples_call_existing_commands(name: str) -> None:
    text = (ROOT / "examples" / "ci" / name).read_text()
    lines = [line.strip(" -") for line in text.splitlines() if re.match(r"\s*(- )?toolchain ", line)]
    toolchain_commands = [
        words for words in commands("```sh\n" + "\n".join(lines) + "\n```") if words[0] == "toolchain"
    ]
    assert {words[1] for words in toolchain_commands} == {"build", "image"}
    for words in toolchain_commands:
        assert isinstance(read(COMMANDS, words[1:]), Call)
    assert "deploy/gate/gate.sh" in text
    assert "\t" not in text


def test_without_one_in_the_path_the_checkouts_own_toolchain_runs() -> None:
    fallback = re.search(r"/(\S+/toolchain)\"", (ROOT / "deploy/gate/gate.sh").read_text())
    assert fallback
    assert (ROOT / "deploy/gate" / fallback[1]).resolve() == (ROOT / ".venv/bin/toolchain").resolve()
