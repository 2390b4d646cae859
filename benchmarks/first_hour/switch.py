"""How long a port is closed when `toolchain run` replaces the release on it, as a client sees it that goes on asking.

`toolchain ship` hands the listening socket over and loses no request; run and deploy publish a port of Docker's, which
one container has at a time. QUICK=1: one switch instead of three.
"""

import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter

from benchmarks.rows import Row, print_rows, row
from toolchain.cli.console import log_to_stderr
from toolchain.progress import track

SWITCHES = 1 if os.environ.get("QUICK") else 3
NAME = "edge-bench-switch"
PAUSE_S = 0.005  # a client that takes a whole core would slow what it waits for
MOST_S = 30.0  # a switch that is felt, and no outage


class AskingClient:
    """Asks whether the server is ready, again and again; longest_s: between two answers that said so."""

    def __init__(self, url: str) -> None:
        self.longest_s, self.failures, self.answers = 0.0, 0, 0
        self._url, self._ended, self._thread = url, Event(), Thread(target=self._run)

    def __enter__(self) -> "AskingClient":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        from deploy.containers.readiness import check_ready

        last = perf_counter()
        while not self._ended.is_set():
            if check_ready(self._url)[0]:
                now = perf_counter()
                self.longest_s, last = max(self.longest_s, now - last), now
                self.answers += 1
            else:
                self.failures += 1
            self._ended.wait(PAUSE_S)


def rows() -> list[Row]:
    from deploy.containers.publishing import PublishedEndpoint
    from deploy.containers.serve import run_server, stop_server
    from deploy.images.build import build_image
    from tests.bundles import null_bundle

    closed_s, cold_s, lost = [], [], 0
    with TemporaryDirectory() as folder:
        bundles = [null_bundle(Path(folder) / release, release=release) for release in ("1", "2")]
        tags = [build_image(bundle, f"{NAME}:{bundle.manifest.release}").tag for bundle in bundles]
        try:
            serving = run_server(tags[0], PublishedEndpoint(0), NAME)
            port = int(serving.url.rpartition(":")[2])
            for number in track(range(SWITCHES), "switches"):
                with AskingClient(serving.url) as client:
                    replaced = run_server(tags[(number + 1) % 2], PublishedEndpoint(port), NAME)
                closed_s.append(client.longest_s)
                cold_s.append(replaced.cold_start_s or 0.0)
                lost += client.failures
        finally:
            stop_server(NAME)
            _remove_images(tags)
    note = (
        f"of {SWITCHES} switches; longest {max(closed_s):.1f} s, the new container's cold start "
        f"{median(cold_s):.1f} s, {lost} attempts without an answer"
    )
    return [row("a port closed while run replaces its release, median", median(closed_s), "<=", MOST_S, "s", note)]


def _remove_images(tags: list[str]) -> None:
    from contextlib import closing

    from deploy.docker.engine import connect

    with closing(connect()) as engine:
        for tag in tags:
            engine.images.remove(tag, force=True)


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
