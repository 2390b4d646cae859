"""What this user did not keep is never read back: neither a stranger's pickle nor a stranger's figures."""

import os
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.compress.nets import tiny
from toolchain.compress.serialization import load_compressed, save_compressed
from toolchain.compress.step import CompressedModel
from toolchain.errors import UsageError
from toolchain.job.seal import KEY_VARIABLE, SEAL, cache_key, is_sealed, key_path, seal_folder
from toolchain.job.stage import Stage
from toolchain.job.stage_cache import StageCache


@pytest.fixture(autouse=True)
def own_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "user" / "cache.key"))


def keep(folder: Path, _: Path) -> int:
    save_compressed(CompressedModel(tiny()), folder / "net.pt")
    return 1


def stage(make: Callable[[Path, Path], Any] = keep) -> Stage[Any]:
    return Stage("model", "model", Any, {}, make)


class Attack:
    """Unpickled, it writes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


def plant(place: Path, witness: Path) -> None:
    """A stranger's entry: a pickle that runs code, its digest refitted, in the place that the build looks at."""
    place.mkdir(parents=True, exist_ok=True)
    content = pickle.dumps(Attack(witness))
    (place / "net.pt").write_bytes(content)
    (place / "net.pt.sha256").write_text(sha256(content).hexdigest())
    (place / "record.json").write_text("1")


@pytest.mark.parametrize("with_seal", [False, True])
def test_a_cache_that_came_with_a_cloned_folder_runs_no_code(
    with_seal: bool, tmp_path: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, witness = StageCache(tmp_path / "project" / ".toolchain" / "cache"), tmp_path / "ran"
    place = cache.place(stage())
    plant(place, witness)
    if with_seal:  # by the stranger's own key
        monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "stranger.key"))
        seal_folder(place, place.name)
        monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "user" / "cache.key"))
    result = cache.run(stage())
    assert isinstance(load_compressed(result.folder / "net.pt"), CompressedModel)
    assert not witness.exists()
    refused = f"model: {place.name} was not kept by this user's builds, or changed since; made again"
    assert messages[:2] == [refused, "model ..."]


def test_what_this_user_kept_is_read_back_and_what_changed_is_made_again(tmp_path: Path, messages: list[str]) -> None:
    cache = StageCache(tmp_path / "cache")
    result = cache.run(stage())
    cache.run(stage())
    assert messages == ["model ...", "model: unchanged"]
    plant(result.folder, tmp_path / "ran")
    cache.run(stage())
    assert messages[-1] == "model ..."
    assert not (tmp_path / "ran").exists()


def test_an_entry_moved_to_another_place_or_linked_there_is_not_that_places(tmp_path: Path) -> None:
    result = StageCache(tmp_path / "cache").run(stage())
    moved, linked = tmp_path / "cache" / "moved", tmp_path / "cache" / "linked"
    linked.symlink_to(result.folder)
    assert is_sealed(result.folder, result.folder.name)
    assert not is_sealed(linked, result.folder.name)
    result.folder.rename(moved)
    assert not is_sealed(moved, moved.name)


def test_a_file_added_removed_or_linked_breaks_the_seal(tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "file").write_text("content")
    seal_folder(folder, "entry")
    assert is_sealed(folder, "entry")
    (folder / "more").symlink_to(tmp_path)
    assert not is_sealed(folder, "entry")
    (folder / "more").unlink()
    assert is_sealed(folder, "entry")
    (folder / "file").unlink()
    assert not is_sealed(folder, "entry")


def test_a_strangers_half_done_work_is_not_gone_on_with_and_ones_own_is(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "cache")
    work = cache.folder / f"{cache.place(stage()).name}.work"
    work.mkdir(parents=True)
    (work / "training.pt").write_text("a stranger's")

    def interrupted(_: Path, work: Path) -> None:
        assert {path.name for path in work.iterdir()} == {SEAL}
        (work / "training.pt").write_text("own")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.run(stage(interrupted))
    assert (work / "training.pt").read_text() == "own"
    cache.run(stage(lambda _, work: (work / "training.pt").read_text()))
    assert not work.exists()


def test_the_key_is_made_once_for_this_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = cache_key()
    assert cache_key() == first
    assert len(first) == 32
    assert key_path().stat().st_mode & 0o777 == 0o600
    assert {path.name for path in key_path().parent.iterdir()} == {"cache.key"}
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert key_path() == tmp_path / "state" / "edge-toolchain" / "cache.key"


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    cache_key()
    key_path().chmod(0o644)
    with pytest.raises(UsageError, match="expected 32 bytes that only this user can read; chmod 600"):
        cache_key()


def test_a_key_that_cannot_be_kept_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "file" / "key"))
    with pytest.raises(UsageError, match=r"the key of the build cache cannot be kept there \(File exists\); name"):
        cache_key()
