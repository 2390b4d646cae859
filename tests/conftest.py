"""How the tests are dealt to workers (`make test` runs two a core: most tests wait), and what all of them share.

Every rule is derived here from the fixtures that a test asks for and from where it lies; no test names its group.
"""

import gc
import logging
import os
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from tests.messages import calling
from tests.names import WORKER
from tests.once import made_once, remove_images, shared_folder
from toolchain.cli.console import scan_seldom
from toolchain.progress import PACKAGES

if TYPE_CHECKING:
    from docker import DockerClient

if WORKER:  # torch reads it when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
scan_seldom()  # as the commands do
NOBODYS = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR")  # pytest's, and what torch sets when it is imported
ROOT = Path(__file__).parents[1]
# what only one worker may use at a time
RESOURCES_OF_FIXTURES = {"postgresql": "database", "place": "database"}
SLOW_S = 5.0  # of CPU, with its children and what it sets up for those after it: then a test has to be marked `slow`
NOT_FAST = {"docker", "server", "slow", "exhaustive"}
CPU_S, BEGAN = "cpu_s", pytest.StashKey[float]()
# what `make test-fast` leaves out, by what a test's module imports and by its fixtures
SERVERS = {"tests.deploy.runtime.server", "tests.deploy.runtime.security.secured", "tests.edges", "tests.httpserver"}
SERVERS_OF_FIXTURES = {"postgresql", "place", "engine"}
# what takes minutes begins first, so that no worker is left alone with it at the end
LONGEST = (
    "tests/journeys/test_ship", "tests/journeys/test_gate", "tests/journeys/test_own_model",
    "tests/journeys/test_gpu_image", "tests/journeys/test_torchrun", "tests/journeys/test_models", "tests/api",
    "tests/journeys", "tests/workflows", "tests/init", "tests/deploy/images", "tests/deploy/gate", "tests/backends",
    "tests/deploy/containers", "tests/deploy/servers", "tests/compress/steps", "tests/build",
)  # fmt: skip


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes by the argument's name: gzip's hold the second in which they were packed, so that two workers would not
    collect the same tests, and a megabyte of them is no name."""
    return argname if isinstance(val, bytes) and len(val) > 16 else None


def path_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def group_of(item: pytest.Function) -> str:
    """What must run in one worker, one after the other; "" for a test that may run anywhere."""
    path = path_of(item)
    for fixture, resource in RESOURCES_OF_FIXTURES.items():
        if fixture in item.fixturenames:
            return resource
    definitions = item._fixtureinfo.name2fixturedefs.values()
    shares = any(one.scope != "function" and one.baseid.startswith(path) for many in definitions for one in many)
    return path if shares or is_story(item) or item.get_closest_marker("docker") else ""


def starts_a_server(item: pytest.Function) -> bool:
    """It, or a fixture that it asks for."""
    helpers = {getattr(value, "__module__", "") for value in vars(item.module).values()}
    return bool(helpers & SERVERS) or not SERVERS_OF_FIXTURES.isdisjoint(item.fixturenames)


def is_story(item: pytest.Item) -> bool:
    """Journeys go on from where the test above them ended."""
    return path_of(item).startswith("tests/journeys/")


def place_of(item: pytest.Function) -> tuple[int, str, int]:
    """The longest first; a story by its lines; all others as they come, which pytest-randomly has shuffled."""
    path = path_of(item)
    rank = next((number for number, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))
    return (rank, path, item.function.__code__.co_firstlineno) if is_story(item) else (rank, "", 0)


@pytest.hookimpl(wrapper=True)  # after pytest-randomly, and before xdist, which reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Function]) -> Iterator[None]:
    for item in items:
        if group := group_of(item):
            item.add_marker(pytest.mark.xdist_group(group))
        if starts_a_server(item):
            item.add_marker(pytest.mark.server)
    items.sort(key=place_of)
    outcome = yield
    strays = [
        item.nodeid for item in items if WORKER and group_of(item) and not item.nodeid.endswith(f"@{group_of(item)}")
    ]
    if strays:
        raise pytest.UsageError(f"pytest-xdist has not grouped {strays[0]}: what shares a resource would run at once")
    return outcome


def pytest_collection_finish() -> None:
    """What is imported now stays for the whole run: no search for garbage looks at it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries that count what they are left with at the end would complain


def used_cpu_s() -> float:
    """By this process and its children that have ended, since it began. A busy machine makes it hardly more."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    item.stash[BEGAN] = used_cpu_s()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "teardown":
        report.user_properties.append((CPU_S, used_cpu_s() - item.stash[BEGAN]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A slow test without the mark is no failure: a machine may be slow. Who added it marks it, or makes it cheaper."""
    whole = [one for one in terminalreporter.stats.get("", []) if hasattr(one, "user_properties")]
    used = {one.nodeid: dict(one.user_properties).get(CPU_S, 0.0) for one in whole}
    for one in sorted(whole, key=lambda one: -used[one.nodeid]):
        if used[one.nodeid] > SLOW_S and one.when == "teardown" and NOT_FAST.isdisjoint(one.keywords):
            terminalreporter.write_line(f"not marked slow, and took {used[one.nodeid]:.1f} s of CPU: {one.nodeid}")
    folders = Counter[str]()
    for nodeid, cpu_s in used.items():
        folders["/".join(nodeid.partition("::")[0].split("/")[:2])] += cpu_s
    costly = ", ".join(f"{folder} {cpu_s:.0f}" for folder, cpu_s in folders.most_common(12))
    terminalreporter.write_line(f"CPU seconds of tests and their processes, without containers: {costly}")
    ends = {one.worker_id: one.stop for one in sorted(whole, key=lambda one: one.stop) if hasattr(one, "worker_id")}
    idle = ", ".join(f"{worker} {max(ends.values()) - stop:.0f}" for worker, stop in ends.items())
    terminalreporter.write_line(f"seconds that each worker had nothing to do at the end: {idle}" if ends else "")


def pytest_configure(config: pytest.Config) -> None:
    """Whoever ends the run with SIGTERM, as .ci/run does, gets its servers and containers removed too."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not WORKER:
        for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGTERM)  # to the workers, which have the servers
    raise KeyboardInterrupt


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    paths = getattr(session.config, "_tmp_path_factory", None)
    if paths and not WORKER:
        remove_images(shared_folder(paths))


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """A test leaves its process as it met it: any other may be next. What the code under test keeps is put back; what
    the test itself changed it has to put back."""
    opener = urllib.request._opener  # type: ignore[attr-defined]  # made of the proxies that were set at its first call
    path = list(sys.path)  # grows by the folder of a user's own module
    before = _state()
    yield
    urllib.request._opener = opener  # type: ignore[attr-defined]  # there is no public way to forget it
    sys.path[:] = path
    after = _state()
    if "torch" not in before:
        after.pop("torch", None)
    changed = {name: (before.get(name), after.get(name)) for name in before | after}
    changed = {name: values for name, values in changed.items() if values[0] != values[1]}
    assert not changed, f"left by this test (before, after): {changed}"


def _state() -> dict[str, object]:
    state: dict[str, object] = {
        **{f"${name}": value for name, value in os.environ.items() if name not in NOBODYS},
        "folder": Path.cwd(),
        "loggers": [(name, (found := logging.getLogger(name)).level, found.propagate) for name in PACKAGES],
        "silenced": [name for name in logging.root.manager.loggerDict if _is_silenced(name)],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }
    if torch := sys.modules.get("torch"):
        state["torch"] = (
            torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )  # fmt: skip
    return state


def _is_silenced(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES and logging.getLogger(name).disabled


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[DockerClient]":
    """The engine, with the base image on it and the wheels in this checkout's home: no two workers make them."""
    from deploy.docker.engine import connect
    from deploy.images.base import base_image
    from deploy.images.build import INSTALLER_LOCK
    from deploy.images.variants import CPU
    from deploy.images.wheelhouse import fill_wheelhouse

    with closing(connect()) as client:
        made_once(tmp_path_factory, "base", lambda _: base_image(client).tag)
        made_once(
            tmp_path_factory,
            "wheels",
            lambda _: str(fill_wheelhouse([*CPU.locks, INSTALLER_LOCK], home=ROOT / ".toolchain")),
        )
        yield client


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """Every message that the packages log while the test runs."""
    logged: list[str] = []
    with calling(logged.append):
        yield logged
