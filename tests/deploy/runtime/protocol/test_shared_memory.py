"""Regions of system shared memory: what may be registered, read and written, and the calls over REST."""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.runtime.protocol.shared_memory import (
    FOLDER,
    RegionAccess,
    RegionSlice,
    RegionStatus,
    SharedRegions,
    is_allowed,
    region_slice_of,
)
from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.memory_budget import MemoryBudget
from tests.bundles import null_bundle
from tests.deploy.runtime.server import Running, serving
from toolchain.errors import RequestError

SHARED = "/v2/systemsharedmemory"


@pytest.fixture
def key() -> Iterator[str]:
    """A file in shared memory, 400 bytes of 1."""
    name = f"edge-test-{secrets.token_hex(6)}"
    (FOLDER / name).write_bytes(b"\x01" * 400)
    yield f"/{name}"
    (FOLDER / name).unlink(missing_ok=True)


def test_what_is_registered_is_read_and_written_within_its_bounds(key: str) -> None:
    regions = SharedRegions()
    regions.register("a", key, 100, 200)
    regions.write(RegionSlice("a", 50, 10), b"\x02" * 10)
    assert (FOLDER / key[1:]).read_bytes() == b"\x01" * 150 + b"\x02" * 10 + b"\x01" * 240
    assert bytes(regions.read(RegionSlice("a", 49, 3))) == b"\x01\x02\x02"
    assert regions.status("a") == [RegionStatus("a", key, 100, 200)]
    for place in (RegionSlice("a", 150, 51), RegionSlice("a", 201, 0), RegionSlice("a", -1, 2)):
        with pytest.raises(RequestError, match="region 'a' has 200 bytes, expected at least"):
            regions.read(place)
    with pytest.raises(RequestError, match="the output has 11 bytes, shared_memory_byte_size is 10"):
        regions.write(RegionSlice("a", 0, 10), b"\x02" * 11)


def test_what_is_about_to_be_read_is_reserved_before_it_is_read(key: str) -> None:
    regions, reserved = SharedRegions(), list[int]()
    regions.register("a", key, 0, 400)
    access = RegionAccess(regions, "on", lambda: False, reserved.append)
    assert len(access.read(RegionSlice("a", 0, 300))) == 300
    assert reserved == [300]
    budget = MemoryBudget(100)
    with pytest.raises(Unavailable):
        RegionAccess(regions, "on", lambda: False, lambda size: budget.reserve(size).release()).read(
            RegionSlice("a", 0, 300)
        )


def test_a_file_that_a_client_shortens_ends_its_own_request_and_nothing_else(key: str) -> None:
    """Mapped memory would end the process instead (SIGBUS)."""
    regions = SharedRegions()
    regions.register("a", key, 0, 400)
    os.truncate(FOLDER / key[1:], 100)
    assert len(regions.read(RegionSlice("a", 0, 100))) == 100
    for use in (
        lambda: regions.read(RegionSlice("a", 0, 101)),
        lambda: regions.write(RegionSlice("a", 0, 400), bytes(400)),
    ):
        with pytest.raises(RequestError, match="has become shorter than it was registered"):
            use()
    assert (FOLDER / key[1:]).stat().st_size == 100


def test_regions_are_unregistered_by_name_or_all_at_once(key: str) -> None:
    regions = SharedRegions()
    for name in ("a", "b", "c"):
        regions.register(name, key, 0, 400)
    with pytest.raises(RequestError, match="region 'a' is registered already"):
        regions.register("a", key, 0, 400)
    regions.unregister("a")
    regions.unregister("a")
    assert [region.name for region in regions.status()] == ["b", "c"]
    regions.unregister(None)
    assert regions.status() == []
    with pytest.raises(RequestError, match="no shared memory region 'b' is registered"):
        regions.read(RegionSlice("b", 0, 1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("/../etc/passwd", "is not a shared memory key"),
        ("..", "is not a shared memory key"),
        ("", "is not a shared memory key"),
        ("a\x00b", "is not a shared memory key"),
        ("/not-there", "cannot be opened here (No such file or directory)"),
    ],
)
def test_a_key_leads_nowhere_but_into_shared_memory(wrong: str, words: str) -> None:
    with pytest.raises(RequestError) as refused:
        SharedRegions().register("a", wrong, 0, 1)
    assert words in str(refused.value)


def test_links_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(RequestError):
            SharedRegions(tmp_path).register("a", name, 0, 1)


def test_more_than_the_file_holds_is_refused(key: str) -> None:
    with pytest.raises(RequestError, match="has 400 bytes, expected 401"):
        SharedRegions().register("a", key, 1, 400)
    with pytest.raises(RequestError, match="expected offset >= 0 and byte_size > 0"):
        SharedRegions().register("a", key, -1, 400)


def test_a_tensors_place_is_named_by_whole_numbers() -> None:
    assert region_slice_of({}, "image") is None
    assert region_slice_of({"shared_memory_region": "a", "shared_memory_byte_size": 4}, "image") == RegionSlice(
        "a", 0, 4
    )
    for wrong in ({}, {"shared_memory_byte_size": True}, {"shared_memory_byte_size": 1 << 80}):
        with pytest.raises(RequestError, match="tensor 'image': expected shared_memory_region as a string"):
            region_slice_of({"shared_memory_region": "a", **wrong}, "image")


def test_by_default_only_clients_on_this_host_may_use_it() -> None:
    assert [is_allowed("local", local) for local in (True, False)] == [True, False]
    assert [is_allowed("on", False), is_allowed("off", True)] == [True, False]


def asked(server: Running, path: str, **body: Any) -> tuple[int, Any]:
    method = "GET" if path.endswith("status") else "POST"
    status, _, found = server.ask(method, f"{SHARED}{path}", json.dumps(body).encode() if body else b"")
    return status, json.loads(found) if found else None


def test_a_request_lies_in_shared_memory_and_its_answer_goes_there(server: Running, key: str) -> None:
    assert asked(server, "/region/mine/register", key=key, byte_size=400) == (200, None)
    assert asked(server, "/region/mine/status") == (
        200,
        [{"name": "mine", "key": key, "offset": 0, "byte_size": 400}],
    )
    given = {"shared_memory_region": "mine", "shared_memory_byte_size": 192}
    taken = {"shared_memory_region": "mine", "shared_memory_byte_size": 16, "shared_memory_offset": 200}
    feed = {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "parameters": given}
    status, found = server.infer(feed, outputs=[{"name": "logits", "parameters": taken}])
    assert status == 200, found
    assert found["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [1, 4]}]
    assert np.frombuffer((FOLDER / key[1:]).read_bytes()[200:216], np.float32).tolist() == [0.0] * 4
    assert asked(server, "/region/mine/unregister") == (200, None)
    status, found = server.infer(feed)
    assert (status, found["error"]) == (400, "no shared memory region 'mine' is registered")


def test_calls_that_make_no_sense_are_told_what_is_expected(server: Running) -> None:
    assert asked(server, "/region/x/status")[0] == 400
    assert asked(server, "/register")[0] == 404
    assert asked(server, "/region/a/b/register")[0] == 404
    status, found = asked(server, "/region/x/register", key=7, byte_size=1)
    assert status == 400 and "expected a JSON object with key, byte_size and offset" in found["error"]
    assert server.ask("GET", f"{SHARED}/region/x/register")[0] == 405
    assert server.ask("GET", "/v2/cudasharedmemory/status")[2] == b"[]"
    assert server.ask("POST", "/v2/cudasharedmemory/region/x/register")[0] == 400


def test_switched_off_it_is_refused_in_words(tmp_path: Path) -> None:
    with serving(null_bundle(tmp_path / "null.bundle").folder, "--shared-memory", "off") as off:
        assert asked(off, "/status") == (
            403,
            {"error": "shared memory is switched off (--shared-memory); send the bytes"},
        )
        given = {"shared_memory_region": "mine", "shared_memory_byte_size": 192}
        feed = {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "parameters": given}
        status, found = off.infer(feed)
        assert (status, found["error"]) == (400, "region 'mine': shared memory is not available here; send the bytes")
