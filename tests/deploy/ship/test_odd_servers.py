"""A fleet with servers that answer oddly: each is told in a line, and the others are served."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from deploy.images.build import build_image
from tests import edges
from tests.bundles import null_bundle
from tests.deploy.servers.deployed import local_server, remove_deployed
from tests.deploy.servers.odd_servers import KINDS, TOLD, odd_servers, with_ssh_of
from tests.journeys.conftest import lend_wheelhouse
from tests.names import own_name
from toolchain.cli import COMMANDS
from toolchain.cli.parser import run

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.skipif(bool(edges.why_not()), reason=edges.why_not())]
MODEL, TAG = own_name("odd-fleet"), own_name("edge-test:odd-fleet")
POLICY = "[policy]\nfailures = 99\nparallel = 4\nwaves = [4]\n"


@pytest.fixture(scope="module")
def fleet(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder to be in. The last server is sound: this machine's own engine."""
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch, odd_servers(folder, MODEL) as odd:
        patch.setenv("PATH", with_ssh_of(folder))
        patch.setenv("TOOLCHAIN_HOME", str(folder / "home"))
        patch.chdir(folder)
        lend_wheelhouse(folder / "home")
        build_image(null_bundle(folder / "b", name=MODEL), TAG)
        sound = f"[[server]]\nname = 'sound'\naddress = 'local'\nport = {local_server().port}\n"
        (folder / "inventory.toml").write_text(POLICY + odd + sound)
        yield folder
    remove_deployed(engine, MODEL, "1")
    engine.images.remove(TAG, force=True)


@pytest.mark.usefixtures("fleet")
def test_odd_servers_are_told_in_a_line_each_and_the_sound_one_is_served(capfd: pytest.CaptureFixture[str]) -> None:
    def typed(*words: str) -> tuple[Any, str]:
        """What the command printed last, and its progress; it ends with status 1 for the odd ones."""
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(COMMANDS, words)
        output, errors = capfd.readouterr()
        assert (ended.value.code, "Traceback" in output + errors) == (1, False), errors
        return json.loads(output.splitlines()[-1])["servers"], errors

    shipped, progress = typed("ship", TAG)
    reasons = {server["server"]: server["reason"] for server in shipped}
    assert {name for name in (*KINDS, "sound") if "\n" in reasons[name]} == set()
    assert {kind: reasons[kind] for kind in KINDS if TOLD[kind] not in reasons[kind]} == {}
    assert [server["live"] for server in shipped if server["server"] == "sound"] == ["1"]
    assert "audit: its audit: line 1 cannot be read" in progress
    for command in ("status", "servers"):
        rows, _ = typed(command)
        sound = [row for row in rows if row["server"] == "sound"]
        assert [row["error"] for row in sound] == [""]
        assert len(rows) >= len(KINDS)
    checks, _ = typed("audit", "--verify")
    assert checks["sound"]["lines"] == 1
    assert checks["audit"]["problems"][0] == "line 1 was changed or cut off: it cannot be read"
    typed("rollback", "--message=back")
