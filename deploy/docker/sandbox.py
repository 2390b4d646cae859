"""The sandbox of every container: the same limits for the engine's API and for the `docker` command.

Does not know what runs in it.
"""

from typing import Any

PIDS = 512
MEMORY_BYTES = 4 << 30
TMP = "rw,nosuid,nodev,noexec,size=256m"
STATE = "/state"  # the device's key and its certificates (deploy/runtime/device/state.py)
# not `unless-stopped`: after being killed, an engine stops the containers that it finds running at its next start and
# then treats them as stopped by a person (seen with Engine 20.10)
RESTART = {"Name": "always"}
NO_NEW_PRIVILEGES = "no-new-privileges:true"


def state_volume(model: str) -> str:
    """The named volume that all releases of a model share on an engine, so that the device keeps its key."""
    return f"edge-{model}-state"


def sandbox_settings(memory_bytes: int = MEMORY_BYTES) -> dict[str, Any]:
    """Keyword arguments for the SDK's `containers.create`: read-only root, no capabilities, bounded memory and
    processes."""
    return {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": [NO_NEW_PRIVILEGES],
        "pids_limit": PIDS,
        "mem_limit": memory_bytes,
        "memswap_limit": memory_bytes,
        "tmpfs": {"/tmp": TMP},
    }


def sandbox_flags(memory_bytes: int = MEMORY_BYTES) -> list[str]:
    """The same limits as flags of `docker run`."""
    return [
        "--read-only",
        "--cap-drop=ALL",
        f"--security-opt={NO_NEW_PRIVILEGES}",
        f"--pids-limit={PIDS}",
        f"--memory={memory_bytes}",
        f"--memory-swap={memory_bytes}",
        f"--tmpfs=/tmp:{TMP}",
    ]
