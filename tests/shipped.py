"""What clients of an edge server get, and what is left on one: for the journeys and the benchmark of shipping."""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from tests.edges import Edge

MODEL = "shipped"
# on a busy machine the gate may be inconclusive
POLICY = "[policy]\nwaves = [1]\nminutes = 2.0\nbudget = 0.25\ninconclusive = 'go'\n"
PICTURE = bytes(8 * 8 * 3)  # of a null bundle


def tag(number: str) -> str:
    return f"edge-shipped:{number}"


def serves(edge: Edge) -> str:
    """The release that clients of a server get."""
    with closing(http.client.HTTPConnection(edge.address, 8080, timeout=10)) as client:
        client.request("GET", f"/v2/models/{MODEL}")
        return str(json.loads(client.getresponse().read())["versions"][0])


def answers(edge: Edge) -> bool:
    """Whether there is any."""
    try:
        return bool(serves(edge))
    except (OSError, KeyError, ValueError):
        return False


def left_behind(edge: Edge) -> dict[str, object]:
    """Everything of ours on a server."""
    with closing(edge.client()) as client:
        return {
            "containers": sorted(str(one.name) for one in client.containers.list(all=True, ignore_removed=True)),
            "images": sorted(label for one in client.images.list() for label in one.tags),
            "files": sorted(str(path.name) for path in (edge.folder / "home").rglob("*") if path.is_file()),
        }


def clean(release: str, *images: str) -> dict[str, object]:
    tags = [tag(number) for number in images or (release,)]
    return {
        "containers": [f"edge-shipped-at-{release}", "edge-shipped-door", "edge-shipped-trust"],
        "images": sorted(["edge-toolchain-empty:latest", *tags]),
        "files": [],
    }


def ask(edge: Edge, end: threading.Event, keep: bool, pause_s: float, count: "Counter[str]") -> None:
    """One client, over one connection for as long as the server lets it, or a new one for each request; it asks every
    `pause_s` seconds, at once where an answer took longer. Nothing is tried twice."""
    client = http.client.HTTPConnection(edge.address, 8080, timeout=20)  # connects again where it was closed
    headers = {"Inference-Header-Content-Length": "0", **({} if keep else {"Connection": "close"})}
    due = time.monotonic()
    while not end.is_set():
        try:
            client.request("POST", f"/v2/models/{MODEL}/infer", PICTURE, headers)
            answer = client.getresponse()
            answer.read()
            count[str(answer.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            count[repr(error)] += 1
            client.close()
        due = max(due + pause_s, time.monotonic() - pause_s)
        time.sleep(max(0.0, due - time.monotonic()))
    client.close()


@contextmanager
def under_load(edge: Edge, clients: int = 4, per_second: float = 400.0) -> "Iterator[Counter[str]]":
    """What clients were answered meanwhile, by status or error: half of them keep their connections."""
    end, count, pause_s = threading.Event(), Counter[str](), clients / per_second
    started = [
        threading.Thread(target=ask, args=(edge, end, number % 2 == 0, pause_s, count)) for number in range(clients)
    ]
    for one in started:
        one.start()
    try:
        yield count
    finally:
        end.set()
        for one in started:
            one.join()


def inventory(rack: Sequence[Edge], *more: str) -> None:
    """What stands in the folder where the verbs are typed."""
    servers = "".join(
        f"[[server]]\nname = '{one.name}'\naddress = '{one.address}'\nsocket = '{one.socket}'\n{extra}\n"
        for one, extra in zip(rack, [*more, *[""] * len(rack)], strict=False)
    )
    (rack[0].folder.parent / "inventory.toml").write_text(POLICY + servers)


def shipping(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "toolchain", "ship", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def until(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"never said: {words}")
