import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploy.runtime.engines.compile_cache import MAX_FILES, CompileCache


def test_what_was_written_is_read_and_what_was_changed_is_not(tmp_path: Path) -> None:
    store = CompileCache(tmp_path / "new" / "folder")
    assert store.read("plan") is None
    store.write("plan", b"abc" * 100)
    assert store.read("plan") == b"abc" * 100
    place = tmp_path / "new" / "folder" / "plan"
    place.write_bytes(place.read_bytes()[:-1] + b"X")
    assert store.read("plan") is None


def test_what_was_not_used_for_longest_is_thrown_away(tmp_path: Path) -> None:
    store = CompileCache(tmp_path)
    for number in range(MAX_FILES):
        store.write(f"plan-{number}", b"x")
        os.utime(tmp_path / f"plan-{number}", (number, number))
    assert store.read("plan-0") == b"x"  # used now
    store.write("newest", b"x")
    assert not (tmp_path / "plan-1").exists()
    assert (tmp_path / "plan-0").exists()
    assert len(list(tmp_path.iterdir())) == MAX_FILES


def test_without_a_folder_nothing_is_kept_and_nothing_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    none = CompileCache(None)
    none.write("plan", b"x")
    with none.exclusive("plan"):
        assert none.read("plan") is None
    (tmp_path / "file").write_text("in the way")
    blocked = CompileCache(tmp_path / "file")
    blocked.write("plan", b"x")
    blocked.write("plan", b"x")
    with blocked.exclusive("plan"):
        assert blocked.read("plan") is None
    assert capfd.readouterr().err.count("it is compiled again next time") == 1


def test_one_builds_and_the_other_waits_until_it_is_done_or_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    done = threading.Event()

    def wait() -> None:
        with CompileCache(tmp_path).exclusive("plan"):
            done.set()

    waiting = threading.Thread(target=wait)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        waiting.start()
        assert not done.wait(0.3)
        holder.kill()
        assert done.wait(10)
    waiting.join()


HOLD = """
import sys
from pathlib import Path
from deploy.runtime.engines.compile_cache import CompileCache
with CompileCache(Path(sys.argv[1])).exclusive("plan"):
    print("held", flush=True)
    sys.stdin.read()
"""
