"""Marks what this user's builds kept, by a key that lies outside of every project, so that nothing else is read back.

A project folder may come from a stranger, with a `.toolchain` in it: what lies there could hold a pickle that runs
code, or a model and figures that nobody measured. A seal is an HMAC (RFC 2104) over the folder's name and the digest of
every file in it. Knows nothing of stages.
"""

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from toolchain.errors import UsageError
from toolchain.paths import state_folder
from toolchain.records.storage import digest_of

SEAL, KEY_VARIABLE, KEY_BYTES = "seal", "TOOLCHAIN_CACHE_KEY", 32


def key_path() -> Path:
    """$TOOLCHAIN_CACHE_KEY, else cache.key in this user's state directory."""
    if named := os.environ.get(KEY_VARIABLE):
        return Path(named).absolute()
    return state_folder() / "cache.key"


def cache_key() -> bytes:
    """The key, made at the first call. UsageError where others could read or write it, or where it cannot be kept."""
    path = key_path()
    try:
        if not path.is_file():
            _make_key(path)
        status, content = path.stat(), path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: the key of the build cache cannot be kept there ({error.strerror}); name another place outside "
            f"of the project: {KEY_VARIABLE}=FILE"
        ) from error
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or len(content) < KEY_BYTES:
        raise UsageError(
            f"{path}: expected {KEY_BYTES} bytes that only this user can read; chmod 600 {path}, or delete it"
        )
    return content


def _make_key(path: Path) -> None:
    """Whole or not at all; where two builds make one at once, both take the first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    with suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def seal_folder(folder: Path, name: str) -> None:
    """Mark the folder's content as kept under `name`, which it may not bear yet."""
    (folder / SEAL).write_text(_content_seal(folder, name))


def is_sealed(folder: Path, name: str) -> bool:
    """Whether this user kept exactly this content under `name`."""
    return _has_seal(folder) and _equal((folder / SEAL).read_text(errors="replace"), _content_seal(folder, name))


def seal_work(folder: Path) -> None:
    """Mark a folder whose content goes on changing: only that this user's build made it."""
    (folder / SEAL).write_text(_begin(folder.name).hexdigest())


def is_own_work(folder: Path) -> bool:
    """Whether this user's build made the folder."""
    return _has_seal(folder) and _equal((folder / SEAL).read_text(errors="replace"), _begin(folder.name).hexdigest())


def _has_seal(folder: Path) -> bool:
    """A link is nobody's, wherever it points."""
    return not folder.is_symlink() and not (folder / SEAL).is_symlink() and (folder / SEAL).is_file()


def _equal(found: str, expected: str) -> bool:
    return hmac.compare_digest(found.encode(), expected.encode())


def _begin(name: str) -> hmac.HMAC:
    return hmac.new(cache_key(), name.encode(), "sha256")


def _content_seal(folder: Path, name: str) -> str:
    running = _begin(f"{name}/")
    for path in sorted(folder.rglob("*")):
        place, is_link = str(path.relative_to(folder)), path.is_symlink()
        if place != SEAL and (is_link or not path.is_dir()):
            content = f"link to {path.readlink()}" if is_link else digest_of(path)
            running.update(f"\0{place}\0{content}".encode())
    return running.hexdigest()
