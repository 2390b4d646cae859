"""The server's life: start, readiness, overload, drain; and the command line's one-line errors."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.bundles import null_bundle
from tests.deploy.runtime.decoding.files import encode, many_scans, noise
from tests.deploy.runtime.server import CAT, INFER, PATIENCE_S, ROOT, Running, answer, command, request, serving
from toolchain.records.bundle import file_record
from toolchain.records.manifest import Needs
from toolchain.records.storage import encode_record

BODY = json.dumps({"inputs": [CAT]}).encode()


def failed(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    plain = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(plain) == 1, done.stderr
    return done.returncode, plain[0]


def test_a_failed_golden_check_keeps_the_server_alive_but_never_ready(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle")
    sample = bundle.path("sample.npz")
    np.savez(sample, inputs=np.zeros((4, 8, 8, 3), np.uint8), outputs_fp32=np.ones((4, 4), np.float32))
    files = tuple(file_record(bundle.path(file.path)) for file in bundle.manifest.files)
    bundle.path("manifest.json").write_bytes(encode_record(msgspec.structs.replace(bundle.manifest, files=files)))
    with serving(bundle.folder, until="not ready") as server:
        assert server.ask("GET", "/v2/health/live")[0] == 200
        status, _, body = server.ask("GET", "/v2/health/ready")
        assert status == 503
        assert json.loads(body)["error"].startswith("check 'golden distance' failed: ")
        status, found = server.infer(CAT)
        assert status == 503
        assert found["error"].startswith("not ready: check 'golden distance' failed")
        assert b'edge_check_passed{check="golden distance"} 0' in server.ask("GET", "/metrics")[2]
        assert server.stop() == 0


def test_beyond_the_queue_requests_get_503_at_once_with_when_to_retry(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle", delay_ms=1500)
    with serving(bundle.folder, "--queue", 2) as server:
        connections = [server.connect() for _ in range(6)]
        for connection in connections:
            connection.sendall(request("POST", INFER, BODY))
        answers = [answer(connection) for connection in connections]
        for connection in connections:
            connection.close()
        assert sorted(status for status, _, _ in answers) == [200, 200, 503, 503, 503, 503]
        refused = next(found for found in answers if found[0] == 503)
        assert refused[1]["retry-after"] == "1"
        assert json.loads(refused[2])["error"] == "overloaded: 2 requests are waiting, the limit is 2"
        assert b'edge_rejections_total{reason="queue_full"} 4' in server.ask("GET", "/metrics")[2]


def test_a_request_that_waits_past_its_own_timeout_gets_504(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle", delay_ms=1500)
    with serving(bundle.folder) as server, server.connect() as first:
        first.sendall(request("POST", INFER, BODY))
        server.wait_for_depth(1)
        status, found = server.infer(CAT, parameters={"timeout": 1000})
        assert status == 504
        assert "past its deadline" in found["error"]
        assert answer(first)[0] == 200


def test_pictures_that_take_too_long_to_decode_get_504(tmp_path: Path) -> None:
    """Decoding counts like waiting: else some requests full of large pictures would shut all others out."""
    pictures = [b64encode(many_scans(4000, 40)).decode()] * 40
    tensor = {"name": "image", "datatype": "BYTES", "shape": [40], "data": pictures}
    with serving(null_bundle(tmp_path / "null.bundle").folder, "--timeout", 0.5) as server:
        status, found = server.infer(tensor)
        assert status == 504
        assert "to be decoded, past its deadline" in found["error"]


def test_an_image_that_keeps_the_decoder_busy_delays_no_small_one(tmp_path: Path) -> None:
    slow, small = many_scans(4000, 50), encode(noise(8, 8), "PNG")
    with serving(null_bundle(tmp_path / "null.bundle").folder) as server, server.connect() as attacker:
        attacker.sendall(request("POST", INFER, slow, Content_Type="image/jpeg"))
        server.wait_for_depth(1)
        assert server.ask("POST", INFER, small, Content_Type="image/png")[0] == 200
        server.wait_for_depth(1)  # still
        assert server.ask("GET", "/v2/health/ready")[0] == 200
        assert answer(attacker)[0] in (200, 400)  # 400: slower machines take longer than its share of 2 s


def test_sigterm_under_load_answers_all_that_was_asked_and_ends_with_0(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle", delay_ms=100)
    statuses: list[int] = []

    def load(server: Running) -> None:
        with server.connect() as connection:
            for _ in range(1000):
                connection.sendall(request("POST", INFER, BODY))
                status, headers, _ = answer(connection)
                statuses.append(status)
                if headers["connection"] == "close":
                    return

    with serving(bundle.folder) as server:
        clients = [threading.Thread(target=load, args=(server,)) for _ in range(8)]
        for client in clients:
            client.start()
        with server.connect() as watcher:
            while len(statuses) <= len(clients):
                time.sleep(0.01)
            server.process.terminate()
            server.wait_for("draining")
            watcher.sendall(request("GET", "/v2/health/ready"))
            status, _, body = answer(watcher)
        assert (status, json.loads(body)["error"]) == (503, "the server is shutting down")
        for client in clients:
            client.join(PATIENCE_S)
        assert server.process.wait(PATIENCE_S) == 0
        assert server.wait_for("stopped")["unanswered"] == 0
    assert set(statuses) == {200}
    assert len(statuses) > 8


def test_sigterm_before_it_listens_ends_it_at_once(tmp_path: Path) -> None:
    """The interpreter's handler, not the kernel's default, which a container's first process does not have."""
    bundle = null_bundle(tmp_path / "null.bundle").folder
    fifo = bundle / "manifest.json"
    fifo.unlink()
    os.mkfifo(fifo)
    with subprocess.Popen(command("serve", "--bundle", bundle), cwd=ROOT, stderr=subprocess.PIPE) as process:
        with fifo.open("wb"):  # it is reading the manifest now, and waits for its end
            process.terminate()
            assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        assert process.stderr and process.stderr.read() == b""


def test_what_outlasts_the_grace_time_is_told_and_ends_with_1(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle", delay_ms=2000)
    with serving(bundle.folder, "--grace", 0.1) as server, server.connect() as connection:
        connection.sendall(request("POST", INFER, BODY))
        server.wait_for_depth(1)
        began = time.monotonic()
        assert server.stop() == 1
        assert time.monotonic() - began < 15
        assert server.wait_for("stopped")["unanswered"] == 1


def test_requests_are_logged_only_when_asked_for(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle")
    with serving(bundle.folder, LOG_LEVEL="debug") as server:
        server.ask("GET", "/v2")
        line = server.wait_for("request")
        assert (line["method"], line["path"], line["status"]) == ("GET", "/v2", 200)
        assert [one["event"] for one in server.lines][:2] == ["start", "listening"]


def test_what_keeps_it_from_starting_is_one_line(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle").folder
    foreign = null_bundle(tmp_path / "foreign.bundle", needs=Needs("sparc")).folder
    code, line = failed("serve", "--bundle", foreign)
    assert code == 1
    assert "sparc" in line
    code, line = failed("serve", "--bundle", tmp_path / "nothing")
    assert code == 1
    assert "not a bundle" in line
    with serving(bundle) as server:
        code, line = failed("serve", "--bundle", bundle, "--port", server.port, "--host", "127.0.0.1")
    assert code == 1
    assert line == (
        f"deploy.runtime: cannot listen on 127.0.0.1:{server.port} (Address already in use); "
        "choose another: --port or PORT"
    )
    (bundle / "model.null.json").write_bytes(b"{}")
    code, line = failed("serve", "--bundle", bundle)
    assert code == 1
    assert "model.null.json: changed since the bundle was written" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "invalid choice: 'fly'"),
        ([], "the following arguments are required"),
        (["serve", "--port", "http"], "argument --port: invalid int value: 'http'"),
        (["serve", "--prot", "80"], "unrecognized arguments: --prot 80"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(arguments: list[str], message: str) -> None:
    code, line = failed(*arguments)
    assert code == 2
    assert message in line


def test_a_wrong_number_is_one_line_and_exit_2(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle").folder
    for flag, value, message in (
        ("--port", 70000, "--port 70000: expected 0 to 65535"),
        ("--queue", 0, "--queue 0: expected more than 0"),
        ("--timeout", "nan", "--timeout nan: expected more than 0"),
        ("--log-level", "loud", "--log-level loud: expected debug, info, warning, error"),
    ):
        assert failed("serve", "--bundle", bundle, flag, value) == (2, f"deploy.runtime: {message}")


def test_describe_and_certify_print_one_json_document(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle").folder
    for verb, key in (("describe", "manifest"), ("certify", "checks")):
        out = tmp_path / f"{verb}.json"
        done = subprocess.run(
            command(verb, "--bundle", bundle, "--out", out),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        assert key in json.loads(done.stdout.splitlines()[-1])
        assert json.loads(out.read_text()) == json.loads(done.stdout.splitlines()[-1])


LOSES = """
import sys
from deploy.runtime.__main__ import main
from deploy.runtime.engines import null
from toolchain.errors import LostDevice
infer = null.NullEngine.infer
def lost(self, feeds):
    if feeds["image"].max() == 99:
        raise LostDevice("CUDA error 719: this process has lost the GPU; start it again")
    return infer(self, feeds)
null.NullEngine.infer = lost
sys.exit(main(sys.argv[1:]))
"""


def test_a_server_that_lost_its_device_is_unready_and_ends_to_be_started_again(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle")
    with serving(bundle.folder, program=("-c", LOSES)) as server:
        assert server.infer(CAT)[0] == 200
        status, found = server.infer(CAT | {"data": [99] * 192})
        assert status == 503
        assert "CUDA error 719" in found["error"]
        assert server.process.wait(PATIENCE_S) == 1
        assert server.wait_for("lost the device")["reason"].startswith("CUDA error 719")
        assert server.wait_for("draining")


def test_a_unix_socket_answers_beside_the_port_also_after_a_server_that_was_killed(tmp_path: Path) -> None:
    bundle, place = null_bundle(tmp_path / "null.bundle").folder, tmp_path / "edge.sock"
    for _ in range(2):
        with serving(bundle, "--unix-socket", place) as server, socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(place))
            connection.sendall(request("POST", INFER, BODY))
            assert answer(connection)[0] == 200
            assert server.infer(CAT)[0] == 200


def test_the_work_of_a_client_that_left_is_dropped_while_others_wait(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle", delay_ms=2500)
    with serving(bundle.folder) as server, server.connect() as first, server.connect() as last:
        first.sendall(request("POST", INFER, BODY))
        server.wait_for_depth(1)
        with ExitStack() as leaving:
            for _ in range(5):
                leaving.enter_context(server.connect()).sendall(request("POST", INFER, BODY))
            server.wait_for_depth(6)
        last.sendall(request("POST", INFER, BODY))
        assert answer(first)[0] == answer(last)[0] == 200
        dropped = re.search(rb'edge_rejections_total{reason="client_gone"} (\d)', server.ask("GET", "/metrics")[2])
        assert dropped and int(dropped[1]) > 1, "all five where none began before it left"
