"""A folder of secrets as a person lays it out: what the server reads, and beside it whom its clients trust."""

from dataclasses import dataclass
from pathlib import Path
from shutil import copy

from deploy.containers.secrets import CERT, CLIENT_CA, KEY, TOKENS
from tests.deploy.runtime.security.authority import Authority, Issued

TOKEN = "a-token-of-ours-to-test-with"


@dataclass(frozen=True)
class Laid:
    folder: Path
    ours: Authority
    client: Issued


def laid(place: Path, *names: str) -> Laid:
    """names: which files; none: all of them. The certificate is for localhost."""
    ours, folder = Authority(place / "authority"), place / "secrets"
    folder.mkdir()
    server, client = ours.issue("server"), ours.issue("client")
    files = {CERT: server.cert, KEY: server.key, CLIENT_CA: ours.root}
    for name in names or (*files, TOKENS):
        if name == TOKENS:
            (folder / name).write_text(f"# the gateway's\n{TOKEN}\n")
        else:
            copy(files[name], folder / name)
    for file in folder.iterdir():
        file.chmod(0o640)
    return Laid(folder, ours, client)


def readable(one: Laid) -> Laid:
    """By the container's user, whoever runs the tests."""
    for file in one.folder.iterdir():
        file.chmod(0o644)
    return one
