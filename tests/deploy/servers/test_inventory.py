from pathlib import Path

import pytest

from deploy.servers.inventory import ServerConfig, read_inventory, select_servers, split_into_waves
from deploy.ship.ship import ShipRequest, warn_of_open_servers
from tests.house.tree import ROOT
from toolchain.errors import UsageError

A = "[[server]]\nname = 'a'\naddress = 'x'\n"
EXAMPLE = ROOT / "examples" / "inventory.toml"


def test_the_example_is_an_inventory() -> None:
    found = read_inventory(EXAMPLE)
    assert [server.name for server in found.server] == ["line-1", "line-2", "lab"]
    assert (found.server[2].kind, found.server[2].port) == ("gpu", 8080)
    assert (found.policy.waves, found.policy.inconclusive) == ((1, 0.25), "stop")
    assert [server.name for server in select_servers(found, ["lab", "line-1"])] == ["line-1", "lab"]
    with pytest.raises(UsageError, match="no server 'line-9' in the inventory; it has: line-1, line-2, lab"):
        select_servers(found, ["line-9"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "missing required field `server`"),
        ("[[server]]\nname = 'a'", "missing required field `address`"),
        ("[[server]]\nname = 'a'\naddress = 'x'\nprot = 1", "unknown field `prot`"),
        ("[[server]]\nname = 'a'\naddress = 'x'\nport = 0", "Expected `int` >= 1"),
        ("[[server]]\nname = 'a/b'\naddress = 'x'", "server 'a/b': expected letters, digits"),
        ("[[server]]\nname = 'a'\naddress = '-oProxyCommand=rm'", "address '-oProxyCommand=rm': expected HOST"),
        ("[[server]]\nname = 'a'\naddress = 'u@-oProxyCommand=rm'", "expected HOST"),
        ("[[server]]\nname = 'a'\naddress = 'x;id'", "address 'x;id': expected HOST"),
        ("[[server]]\nname = 'a'\naddress = 'x$(id)'", "expected HOST"),
        (f"{A}socket = '/run/d.sock; id'", "socket '/run/d.sock; id': expected a path from / on"),
        (f"{A}socket = '/run:/x'", "expected a path from / on"),
        (f"{A}socket = 'd.sock'", "expected a path from / on"),
        ("[[server]]\nname = 'a'\naddress = 'x'\n" * 2, "server 'a' is there 2 times"),
        (
            "[[server]]\nname = 'a'\naddress = 'x'\n[[server]]\nname = 'b'\naddress = 'x'",
            "another has the same address",
        ),
        ("[[server]\n", "Expected ']]'"),
        (f"{A}secrets = '/s'", "server 'a': secrets = 'FOLDER' and closed_by = ['tls', 'tokens'] go together"),
        (f"{A}closed_by = ['tls']", "server 'a': secrets = 'FOLDER' and closed_by = ['tls', 'tokens'] go together"),
        (f"{A}secrets = 's'\nclosed_by = ['tls']", "server 'a': secrets 's': expected a folder there, from / on"),
        (f"{A}secrets = '/s'\nclosed_by = ['client-ca']", "closed_by: client certificates need 'tls' too"),
        (f"{A}secrets = '/s'\nclosed_by = ['key']", "Invalid enum value 'key'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_with_the_file(text: str, told: str, tmp_path: Path) -> None:
    place = tmp_path / "inventory.toml"
    place.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_inventory(place)
    assert str(caught.value).startswith(f"{place}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_is_told_of_the_files_that_close_it(tmp_path: Path) -> None:
    place = tmp_path / "inventory.toml"
    place.write_text(f"{A}secrets = '/etc/edge'\nclosed_by = ['tls', 'tokens']")
    (server,) = read_inventory(place).server
    assert server.environment == {
        "TLS_CERT": "/secrets/tls.crt", "TLS_KEY": "/secrets/tls.key", "TOKEN_FILE": "/secrets/tokens",
    }  # fmt: skip
    assert ServerConfig("a", "x").environment == {}


def servers(count: int) -> list[ServerConfig]:
    return [ServerConfig(str(number), f"host-{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("count", "waves", "sizes"),
    [(10, (1, 0.25), [1, 3, 6]), (3, (1, 0.25), [1, 1, 1]), (1, (1, 0.25), [1]), (5, (5, 5), [5]), (4, (0.5,), [2, 2])],
)
def test_waves_hold_everyone_once(count: int, waves: tuple[float, ...], sizes: list[int]) -> None:
    found = split_into_waves(servers(count), waves)
    assert [len(wave) for wave in found] == sizes
    assert [server for wave in found for server in wave] == servers(count)


def test_servers_that_need_no_token_are_named_once(tmp_path: Path, messages: list[str]) -> None:
    place = tmp_path / "inventory.toml"
    how = {"a": "port = 81", "b": "['tls']", "c": "['tokens']", "d": "['tls', 'client-ca']"}
    closed = "secrets = '/etc/edge'\nclosed_by = "
    place.write_text(
        "".join(
            f"[[server]]\nname = '{name}'\naddress = 'x{name}'\n{closed if '[' in more else ''}{more}\n"
            for name, more in how.items()
        )
    )
    warn_of_open_servers(ShipRequest(read_inventory(place)))
    warn_of_open_servers(ShipRequest(read_inventory(place), ("c", "d")))
    (line,) = messages
    assert line.startswith(
        "open without tokens: a:81, b:8080; whoever reaches them can use the model; close them by sec"
    )
