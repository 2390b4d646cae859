"""deploy/gate/comment.sh against servers that answer as GitHub's and GitLab's interfaces are documented to."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from tests.house.tree import ROOT
from tests.httpserver import Silent, served

SCRIPT = ROOT / "deploy" / "gate" / "comment.sh"
MARKER = "<!-- edge-toolchain gate: null -->"
SUMMARY = '### null 2\n\n| metric | verdict |\n|---|---|\n| p50 | "regressed" $(touch ran) |\n'
TOKEN = "t0ken"

pytestmark = pytest.mark.skipif(not shutil.which("jq") or not shutil.which("curl"), reason="apt-get install curl jq")


class CommentServer(Silent):
    """Keeps what was asked of it; `comments` are those that are there."""

    asked: ClassVar[list[tuple[str, str, str | None, dict[str, str]]]] = []
    comments: ClassVar[list[dict[str, object]]] = []
    status = 200

    def _take(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        token = self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN")
        self.asked.append((self.command, self.path, token, body))
        answer = json.dumps(self.comments if self.command == "GET" else {}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = do_PUT = _take


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CommentServer, "asked", [])
    monkeypatch.setattr(CommentServer, "comments", [])
    monkeypatch.setattr(CommentServer, "status", 200)


def comment(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "gate-report").mkdir(exist_ok=True)
    (folder / "gate-report" / "summary.md").write_text(SUMMARY)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "CI_"))}
    ran = subprocess.run(
        ["bash", str(SCRIPT), "null"], cwd=folder, env=kept | environment, capture_output=True, text=True, check=False
    )
    assert TOKEN not in ran.stdout + ran.stderr
    assert not (folder / "ran").exists()
    return ran


def on_github(folder: Path, address: str) -> dict[str, str]:
    (folder / "event.json").write_text(json.dumps({"pull_request": {"number": 7}}))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REPOSITORY": "me/mine",
        "GITHUB_API_URL": address,
        "GITHUB_TOKEN": TOKEN,
    }


def on_gitlab(address: str) -> dict[str, str]:
    place = {"CI_API_V4_URL": address, "CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7"}
    return {**place, "GATE_COMMENT_TOKEN": TOKEN}


def test_a_pull_request_gets_one_comment_and_later_runs_update_it(tmp_path: Path) -> None:
    with served(CommentServer) as address:
        assert comment(tmp_path, **on_github(tmp_path, address)).returncode == 0
        CommentServer.comments = [{"id": 1, "body": "hello"}, {"id": 5, "body": f"{MARKER}\nold"}]
        assert comment(tmp_path, **on_github(tmp_path, address)).returncode == 0
    assert [(method, path) for method, path, _, _ in CommentServer.asked] == [
        ("GET", "/repos/me/mine/issues/7/comments?per_page=100"),
        ("POST", "/repos/me/mine/issues/7/comments"),
        ("GET", "/repos/me/mine/issues/7/comments?per_page=100"),
        ("PATCH", "/repos/me/mine/issues/comments/5"),
    ]
    assert {token for _, _, token, _ in CommentServer.asked} == {f"Bearer {TOKEN}"}
    assert CommentServer.asked[1][3] == {"body": f"{MARKER}\n{SUMMARY}"}


def test_a_merge_request_gets_one_comment_and_later_runs_update_it(tmp_path: Path) -> None:
    with served(CommentServer) as address:
        assert comment(tmp_path, **on_gitlab(address)).returncode == 0
        CommentServer.comments = [{"id": 5, "body": f"{MARKER}\nold"}]
        assert comment(tmp_path, **on_gitlab(address)).returncode == 0
    notes = "/projects/3/merge_requests/7/notes"
    assert [(method, path) for method, path, _, _ in CommentServer.asked] == [
        ("GET", f"{notes}?per_page=100"),
        ("POST", notes),
        ("GET", f"{notes}?per_page=100"),
        ("PUT", f"{notes}/5"),
    ]
    assert {token for _, _, token, _ in CommentServer.asked} == {TOKEN}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"GATE_COMMENT_TOKEN": ""}, "no token in GATE_COMMENT_TOKEN"),
        ({"CI_MERGE_REQUEST_IID": ""}, "this job runs for no merge request"),
        ({"CI_API_V4_URL": "http://127.0.0.1:1"}, "cannot be read"),
    ],
)
def test_what_keeps_it_from_commenting_is_said_and_fails_nothing(
    change: dict[str, str], words: str, tmp_path: Path
) -> None:
    with served(CommentServer) as address:
        ran = comment(tmp_path, **{**on_gitlab(address), **change})
    assert ran.returncode == 0
    assert words in ran.stderr


def test_a_server_that_refuses_is_said_and_fails_nothing(tmp_path: Path) -> None:
    CommentServer.status = 403
    with served(CommentServer) as address:
        ran = comment(tmp_path, **on_gitlab(address))
    assert ran.returncode == 0
    assert "cannot be read, so no comment" in ran.stderr
