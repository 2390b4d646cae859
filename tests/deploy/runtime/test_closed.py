"""What a server never does, as Python's audit hooks and the kernel see it: it makes no connection, runs no other
program and unpickles nothing."""

import ast
import json
import re
import shutil
import signal
import subprocess
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.security.secured import asked
from tests.deploy.runtime.server import CAT, INFER, Running, serving
from tests.house.tree import ROOT, imports

FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"),
    *("urllib.Request", "http.client.connect", "pickle.find_class", "marshal.loads", "webbrowser.open"),
)
AUDITED = f"""
import json, sys
FORBIDDEN = {FORBIDDEN!r}
def hook(event, arguments):
    # Python itself reads its byte code by marshal, from files
    if event in FORBIDDEN and (event != "marshal.loads" or "importlib" not in sys._getframe(1).f_code.co_filename):
        sys.stderr.write(json.dumps({{"event": "audit", "of": event, "with": repr(arguments)[:200]}}) + "\\n")
sys.addaudithook(hook)
from deploy.runtime.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
TOKEN = "a-token-of-ours-to-test-with"
SHOWN = f"Bearer {TOKEN}"


def every_kind_of_request(server: Running, ours: Authority) -> None:
    content = BytesIO()
    Image.new("RGB", (20, 20)).save(content, "JPEG")
    picture = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64encode(content.getvalue()).decode()]}
    for tensor in (CAT, picture):
        body = json.dumps({"inputs": [tensor]}).encode()
        assert asked(server, ours.trusting(), INFER, body, Authorization=SHOWN)[0] == 200
    for path in ("/", "/v2", "/v2/health/ready", "/v2/models/null", "/v2/models/null/config", "/certificate"):
        assert asked(server, ours.trusting(), path, Authorization=SHOWN)[0] in (200, 404)
    admin = server.wait_for("listening for control")["port"]
    assert asked(server, ours.trusting(), "/metrics", port=admin, Authorization=SHOWN)[0] == 200
    pickled = b"cos\nsystem\n(S'true'\ntR."
    assert asked(server, ours.trusting(), INFER, pickled, Authorization=SHOWN)[0] == 400
    assert asked(server, ours.trusting(), INFER, pickled)[0] == 401


def flags(folder: Path, ours: Authority) -> tuple[object, ...]:
    issued, tokens = ours.issue("server"), folder / "tokens"
    tokens.write_text(TOKEN)
    tls = ("--tls-cert", issued.cert, "--tls-key", issued.key)
    return (*tls, "--token-file", tokens, "--admin-port", 0, "--admin-host", "127.0.0.1")


@pytest.mark.parametrize("certify", ["off", "first"])
def test_a_server_asks_nobody_runs_nothing_and_unpickles_nothing(tmp_path: Path, certify: str) -> None:
    ours, state = Authority(tmp_path), tmp_path / "state"
    state.mkdir()
    bundle = null_bundle(tmp_path / "null.bundle").folder
    more = ("--certify", certify, "--state", state, "--certify-seconds", 0.1)
    with serving(bundle, *flags(tmp_path, ours), *more, program=("-c", AUDITED)) as server:
        every_kind_of_request(server, ours)
        server.process.send_signal(signal.SIGHUP)
        assert server.stop() == 0
        assert [line for line in server.lines if line["event"] in ("audit", "plain", "unexpected")] == []


def test_the_hook_sees_what_it_is_to_see(tmp_path: Path) -> None:
    """Else the test above would pass with a hook that is blind."""
    does = (
        "import os, pickle, socket; os.system('true'); pickle.loads(b'cos\\ngetcwd\\n(tR.'); socket.socket().connect_ex"
    )
    blind = AUDITED.partition("from deploy")[0] + does + "(('127.0.0.1', 9))"
    ran = subprocess.run(["python3", "-c", blind], capture_output=True, text=True, check=True, timeout=120)
    assert {json.loads(line)["of"] for line in ran.stderr.splitlines()} == {
        "os.system",
        "pickle.find_class",
        "socket.connect",
    }


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_sees_no_connection_and_no_program_either(tmp_path: Path) -> None:
    """Libraries that are not Python's are not seen by its hooks."""
    ours, bundle, trace = Authority(tmp_path), null_bundle(tmp_path / "null.bundle").folder, tmp_path / "trace"
    with serving(bundle, *flags(tmp_path, ours)) as server:
        words = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg,execve,fork,vfork", "-o", trace]
        with subprocess.Popen([*words, "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True) as watching:
            assert watching.stderr
            if "attached" not in (said := watching.stderr.readline()):
                pytest.skip(f"strace may not look: {said}")
            every_kind_of_request(server, ours)
            watching.send_signal(signal.SIGINT)
            watching.wait(10)
    seen = trace.read_text().splitlines()
    # what is sent to a connection that is there already has no address: answers, and the loop that wakes itself
    assert [line for line in seen if re.search(r"connect\(|execve\(|fork\(|sa_family", line)] == []
    assert any("sendto(" in line for line in seen), "a trace without a call saw nothing"


def test_no_source_of_the_container_could() -> None:
    """Neither pickle nor a shell is there to be called; the one program that is ever run is NVIDIA's own."""
    inside = [one for one in imports() if one.module.startswith(("deploy.runtime", "toolchain.records"))]
    assert inside
    wanted = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "urllib.request", "requests", "http.client"}
    assert [str(one) for one in inside if one.target in wanted] == []
    assert {one.module for one in inside if one.target == "subprocess"} == {"deploy.runtime.device.probe"}
    called = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.func)}"
        for folder in ("deploy/runtime", "toolchain/records")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in ("eval", "exec", "os.system", "os.popen", "__import__")
            or any(word.arg == "shell" for word in node.keywords)
        )
    ]
    assert called == []
