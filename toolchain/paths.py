"""Where the toolchain keeps what it makes: `.toolchain` in the current folder, or $TOOLCHAIN_HOME."""

import os
from pathlib import Path


def home() -> Path:
    """The folder of data/, cache/, bundles/ and the ledger."""
    return Path(os.environ.get("TOOLCHAIN_HOME", ".toolchain")).absolute()
