"""The verbs that reach edge servers, thin as those of cli.py."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.ship.waves import Fleet

INVENTORY = Path("inventory.toml")


def ship(
    image: str,
    *servers: str,
    inventory: Path = INVENTORY,
    why: str = "",
    despite_gate: str = "",
    trust: bool = False,
    dry_run: bool = False,
) -> None:
    """Bring a release to edge servers: only what they lack, judged on each, switched to without losing a request.

    Wave by wave; a server whose certificate or gate refuses keeps what it has. Exit code 0: everywhere; 1: not.

    Args:
        image: the tag of an image on this machine's engine
        servers: names in the inventory; without them all
        inventory: the TOML file of the servers; see examples/inventory.toml
        why: for the servers' audit
        despite_gate: the reason to let it go live where the gate is not asked; kept in the audit
        trust: the image's signer, also on servers that do not know that key yet; see release sign
        dry_run: say what would be done on each server, and change nothing
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import Asked, plan
    from deploy.ship.ship import ship as shipped
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import board, plan_page

    asked = Asked(read_inventory(inventory), servers, why, despite_gate, trust)
    if dry_run:
        planned = plan(image, asked)
        print(plan_page(planned), end="\n\n")
        print(as_json({"image": image, "plan": planned}))
        return
    with board() as shown:
        fleet = shipped(image, asked, shown.seen)
    _ended(fleet)


def pack(image: str, *, to: Path, for_: str = "") -> None:
    """Write a release to a file that is carried to servers that nothing here can reach: see unpack.

    Args:
        image: the tag of an image on this machine's engine
        to: the file
        for_: names, with commas between; only what they lacked when they were last reached is packed
    """
    from contextlib import closing

    from deploy.docker.engine import connect
    from deploy.servers.release_image import parcel
    from deploy.ship.offline import pack as packed
    from toolchain.records.storage import check_output_path
    from toolchain.views.bundle import as_json

    check_output_path(to, "--to")
    with closing(connect()) as client:
        sent = parcel(client, image)
        stick = packed(client, sent, tuple(filter(None, for_.split(","))), to)
    print(as_json({"file": str(to), "size_bytes": to.stat().st_size, "image": image, "archives": stick.archives}))


def unpack(
    stick: Path,
    *servers: str,
    inventory: Path = INVENTORY,
    why: str = "",
    despite_gate: str = "",
    trust: bool = False,
) -> None:
    """As ship, of a file that pack wrote: the servers are judged and switched just so.

    On the server itself, its address in the inventory is `local`.

    Args:
        stick: the file
        servers: names in the inventory; without them all
        inventory: the TOML file of the servers
        why: for the servers' audit
        despite_gate: the reason to let it go live where the gate is not asked; kept in the audit
        trust: the image's signer, also on servers that do not know that key yet
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import Asked
    from deploy.ship.ship import unpack as unpacked
    from toolchain.views.ship import board

    asked = Asked(read_inventory(inventory), servers, why, despite_gate, trust)
    with board() as shown:
        fleet = unpacked(stick, asked, shown.seen)
    _ended(fleet)


def rollback(
    *servers: str,
    inventory: Path = INVENTORY,
    release: str | None = None,
    model: str | None = None,
    why: str = "",
) -> None:
    """Go back to a release whose image is still on the servers, without losing a request; the gate is not asked.

    Args:
        servers: names in the inventory; without them all
        inventory: the TOML file of the servers
        release: which one; without it the one that served before
        model: whose, where a server serves several
        why: for the servers' audit
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import Asked
    from deploy.ship.ship import rollback as back
    from toolchain.views.ship import board

    asked = Asked(read_inventory(inventory), servers, why)
    with board() as shown:
        fleet = back(release, model, asked, shown.seen)
    _ended(fleet)


def servers(*names: str, inventory: Path = INVENTORY) -> None:
    """What each server is: processor, GPU, cores, memory, free disk, engine, and the release that serves.

    Args:
        names: of servers in the inventory; without them all
        inventory: the TOML file of the servers
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.server_info import facts
    from deploy.ship.ship import Asked
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import servers_table

    found = facts(Asked(read_inventory(inventory), names))
    print(servers_table(found), end="\n\n")
    print(as_json({"servers": found}))
    if any(one.error for one in found):
        raise SystemExit(1)


def status(*names: str, inventory: Path = INVENTORY) -> None:
    """What serves on each server, whether it is ready, what could be gone back to, and what was done last.

    Args:
        names: of servers in the inventory; without them all
        inventory: the TOML file of the servers
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import Asked
    from deploy.ship.ship import status as stated
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import status_table

    found = stated(Asked(read_inventory(inventory), names))
    print(status_table(found), end="\n\n")
    print(as_json({"servers": found}))
    if any(one.error or (one.live and not one.serves) for one in found):
        raise SystemExit(1)


def audit(*names: str, inventory: Path = INVENTORY, model: str | None = None) -> None:
    """Every line of the servers' own records: when, who, what, why, and how it ended.

    Args:
        names: of servers in the inventory; without them all
        inventory: the TOML file of the servers
        model: whose, where a server serves several
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import Asked
    from deploy.ship.ship import audit as audited
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import audit_table

    found = audited(Asked(read_inventory(inventory), names), model)
    print(audit_table(found), end="\n\n")
    print(as_json({"servers": found}))


def logs(
    server: str,
    *,
    inventory: Path = INVENTORY,
    release: str | None = None,
    model: str | None = None,
    lines: int = 100,
) -> None:
    """The last lines that a server's container wrote.

    Args:
        server: its name in the inventory
        inventory: the TOML file of the servers
        release: whose container; without it the one that serves
        model: whose, where a server serves several
        lines: how many
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import Asked
    from deploy.ship.ship import logs as read

    print(read(Asked(read_inventory(inventory), (server,)), model, release, lines), end="")


def unlock(server: str, *, inventory: Path = INVENTORY, model: str | None = None) -> None:
    """Take away the lock of a run that is known to be gone, on another machine say.

    Args:
        server: its name in the inventory
        inventory: the TOML file of the servers
        model: whose, where a server serves several
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import Asked
    from deploy.ship.ship import unlock as unlocked
    from toolchain.views.bundle import as_json

    print(as_json({"server": server, "unlocked": unlocked(Asked(read_inventory(inventory), (server,)), model)}))


def _ended(fleet: "Fleet") -> None:
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import fleet_page

    print(fleet_page(fleet), end="\n\n")
    print(as_json({"complete": fleet.complete, "servers": fleet.told, "left": fleet.left}))
    if not fleet.complete:
        raise SystemExit(1)
