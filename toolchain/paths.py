"""Where the toolchain keeps what it makes: `.toolchain` in the current folder, or $TOOLCHAIN_HOME."""

import os
from pathlib import Path

from toolchain.errors import UsageError

HOME = "TOOLCHAIN_HOME"


def home() -> Path:
    """The folder of data/, cache/, bundles/ and the ledger."""
    return Path(os.environ.get(HOME, ".toolchain")).absolute()


def private_folder() -> Path:
    """The folder of what no project may bring along, such as the key that signs images: $TOOLCHAIN_HOME where that is
    set, else this user's state directory. A `.toolchain` in the current folder may come from a stranger."""
    return home() if HOME in os.environ else state_folder()


def state_folder() -> Path:
    """This user's state directory (XDG Base Directory Specification). UsageError: the user has no home directory."""
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state).absolute() / "edge-toolchain"
    try:
        return Path.home() / ".local" / "state" / "edge-toolchain"
    except RuntimeError as error:
        raise UsageError("this user has no home directory; name a folder for keys: XDG_STATE_HOME=FOLDER") from error
