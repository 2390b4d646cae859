"""Injects faults into each stage of shipping and checks the state afterwards."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from benchmarks import logger
from benchmarks.rows import Row, row
from benchmarks.shipping.shipped import Rack
from deploy.docker.labels import RELEASE
from tests.edges import Edge, wait_for
from tests.shipped import MODEL, answers, clean, left_behind, serves, tag

# the progress line at the start of each stage; the first is a transfer that takes seconds on a slow link
STAGES = {
    "send": "layers are missing there",
    "start": "starting ",
    "certify": "waiting until ",
    "gate": "is gated against ",
    "switch": "switching to ",
    "drain": "draining ",
}
CUT_S, SLOW_MBIT, WEIGHTS_BYTES = 30.0, 60, 20_000_000
PATIENCE_S = 400.0
BALLAST = "ballast"
Fault = Callable[[Edge, "subprocess.Popen[str]"], None]  # the server, the tool


def kill_ssh(edge: Edge) -> None:
    subprocess.run(["pkill", "-KILL", "-f", f"ssh.*{edge.address}( |$)"], check=False)


def kill_engine(edge: Edge) -> None:
    edge.kill_engine()
    time.sleep(3)
    edge.start_engine()


def fill_disk(edge: Edge) -> None:
    fill = ["dd", "if=/dev/zero", f"of={edge.root}/{BALLAST}", "bs=1M"]
    subprocess.run(fill, check=False, capture_output=True)


def repair(edge: Edge) -> None:
    """Clean up what a fault left and only a person would remove."""
    (edge.root / BALLAST).unlink(missing_ok=True)


def cut_link(edge: Edge) -> None:
    edge.cut()
    time.sleep(CUT_S)
    edge.mend()


FAULTS: dict[str, Fault] = {
    "kill -9 of the tool": lambda _, tool: tool.kill(),
    "kill -9 of ssh": lambda edge, _: kill_ssh(edge),
    "kill -9 of the engine": lambda edge, _: kill_engine(edge),
    "disk full": lambda edge, _: fill_disk(edge),
    "link cut for 30 s": lambda edge, _: cut_link(edge),
}


def fault_rows(rig: Rack, quick: bool) -> Iterator[Row]:
    """A row: every fault in every stage, one after the other, on one server. quick: one fault per stage."""
    rig.build("3", 2.0, WEIGHTS_BYTES)
    rig.build("4", 2.0, WEIGHTS_BYTES)
    edge = rig.edges[0]
    edge.slow(SLOW_MBIT)  # a model takes seconds
    rig.ship("3", edge.name)
    failed: list[str] = []
    tried = 0
    for place, (stage, words) in enumerate(STAGES.items()):
        for number, (name, fault) in enumerate(FAULTS.items()):
            if quick and number != place % len(FAULTS):
                continue
            tried += 1
            problem = try_fault(rig, edge, stage, words, fault)
            logger.info(f"{name} during {stage}: {problem or 'recovered'}")
            failed += [f"{name}, {stage}: {problem}"] if problem else []
    what = f"of {tried} faults, in every stage, left a server worse or unclean"
    yield row(what, len(failed), "<=", 0, "", "; ".join(failed)[:600])


def try_fault(rig: Rack, edge: Edge, stage: str, words: str, fault: Fault) -> str:
    """What is wrong afterwards; "" for nothing. The server serves release 3 before and after."""
    flags = [] if stage == "gate" else ["--skip-gate", "--reason=faults are tried"]
    process = rig.start("ship", tag("4"), edge.name, *flags)
    heard = _watch_for(process, words)
    if not heard.wait(PATIENCE_S):
        process.kill()
        return f"the stage was never reached: {words}"
    if stage == "send":
        time.sleep(0.7)  # in the middle of the stage
    fault(edge, process)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return "the tool hangs"
    repair(edge)
    with suppress(AssertionError):
        wait_for(lambda: answers(edge), "an answer", 90)
    if not answers(edge):
        return "nothing answers any more"
    again = rig.run("ship", tag("4"), edge.name, "--skip-gate", "--reason=faults are tried")
    if again.returncode:
        return f"the next ship fails: {again.stderr.splitlines()[-1][:200]}"
    if serves(edge) != "4" or left_behind(edge) != clean("4", *{door_of(edge), "3", "4"}):
        return f"left behind: {left_behind(edge)}, serves {serves(edge)}"
    rig.run_for_server("rollback", edge.name, "--release=3", "--message=faults are tried")
    _remove_image(edge)
    return ""


def door_of(edge: Edge) -> str:
    """The release that the socket holder was started from; its image stays as long as the holder runs."""
    client = edge.client()
    release = client.containers.get(f"edge-{MODEL}-door").labels[RELEASE]
    client.close()
    return release


def _remove_image(edge: Edge) -> None:
    """Remove the image of release 4, so that the next case sends it again."""
    client = edge.client()
    client.images.remove(tag("4"), force=True)
    client.close()


def _watch_for(process: "subprocess.Popen[str]", words: str) -> threading.Event:
    """An event that is set when the tool prints `words`; the rest of its output is discarded."""
    event = threading.Event()

    def listen() -> None:
        assert process.stderr
        for line in process.stderr:
            if words in line:
                event.set()

    threading.Thread(target=listen, daemon=True).start()
    return event
