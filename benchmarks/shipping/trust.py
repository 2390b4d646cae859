"""Whether a server accepts what was tampered with in transit: an image, a manifest, a signature, an archive."""

import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.rows import Row, row
from benchmarks.shipping.shipped import Rack
from deploy.docker.engine import connect
from tests.shipped import clean, left_behind, serves, tag

RELEASE = "5"
Undo = Callable[[], None]


def tampered_rows(rig: Rack) -> Iterator[Row]:
    """Each tampered release is shipped to a server that trusts our key, and must change nothing there."""
    rig.build(RELEASE, 2.0)
    edge = rig.edges[1]
    rig.ship("1", edge.name)
    taken = []
    for what, tamper in TAMPERED.items():
        undo = tamper(rig)
        done = rig.run("ship", tag(RELEASE), edge.name, "--skip-gate", "--reason=tampered")
        undo()
        there = left_behind(edge)["containers"]
        if (
            done.returncode != 1
            or serves(edge) != "1"
            or there != clean("1")["containers"]
            or "Traceback" in done.stderr
        ):
            taken.append(f"{what}: {done.stderr.splitlines()[-1:]}")
    yield row(f"of {len(TAMPERED)} tampered releases accepted", len(taken), "<=", 0, "", "; ".join(taken))


def _signature(rig: Rack) -> Path:
    with closing(connect()) as client:
        image = str(client.images.get(tag(RELEASE)).id)
    return rig.folder / "home" / "signatures" / f"{image.rpartition(':')[2]}.json"


def _changed(place: Path, field: str, value: str, part: str = "") -> Undo:
    before = place.read_bytes()
    document = json.loads(before)
    (document[part] if part else document)[field] = value
    place.write_bytes(json.dumps(document).encode())
    return lambda: _back(place, before)


def _back(place: Path, content: bytes) -> None:
    place.write_bytes(content)


def signature(rig: Rack) -> Undo:
    return _changed(_signature(rig), "signature", b64encode(bytes(64)).decode())


def manifest(rig: Rack) -> Undo:
    """A signed statement that names another bundle."""
    return _changed(_signature(rig), "bundle", "0" * 64, "labels")


def unsigned(rig: Rack) -> Undo:
    place = _signature(rig)
    before = place.read_bytes()
    place.unlink()
    return lambda: _back(place, before)


def unknown_key(rig: Rack) -> Undo:
    place = _signature(rig)
    before = place.read_bytes()
    key = rig.folder / "other.key"
    key.write_text(b64encode(b"7" * 32).decode())
    assert rig.run("release", "sign", tag(RELEASE), f"--key={key}").returncode == 0
    return lambda: _back(place, before)


def image(rig: Rack) -> Undo:
    """One byte of the model is changed under the same tag: an unsigned image."""
    with closing(connect()) as client:
        before = client.images.get(tag(RELEASE))
        script = f"FROM {tag(RELEASE)}\nCOPY other /bundle/model.null.json\n"
        at = rig.folder / "tampered"
        at.mkdir(exist_ok=True)
        (at / "other").write_text("{}")
        (at / "Dockerfile").write_text(script)
        subprocess.run(["docker", "build", "-q", "-t", tag(RELEASE), str(at)], check=True, capture_output=True)

    def undo() -> None:
        with closing(connect()) as client:
            client.images.get(str(before.id)).tag(*tag(RELEASE).split(":"))

    return undo


def archive(rig: Rack) -> Undo:
    """The last bytes of packed files are changed between packing and sending."""
    folder = rig.folder / "home" / "shipping"
    for flags in ([], ["--for=edge2"]):  # the whole image too, which is sent where a partial archive is refused
        rig.run("pack", tag(RELEASE), f"--to={rig.folder}/unused.tar", *flags)
    for place in folder.glob("*.tar.gz"):
        place.write_bytes(place.read_bytes()[:-64] + bytes(64))

    def undo() -> None:
        for place in folder.glob("*.tar.gz"):
            place.unlink()

    return undo


TAMPERED: dict[str, Callable[[Rack], Undo]] = {
    "signature": signature,
    "manifest": manifest,
    "unsigned": unsigned,
    "unknown key": unknown_key,
    "image": image,
    "archive": archive,
}
