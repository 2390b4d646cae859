"""The commands that reach edge servers."""

from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.errors import UsageError

if TYPE_CHECKING:
    from deploy.ship.ship import ShipRequest
    from deploy.ship.waves import WavesResult

INVENTORY = Path("inventory.toml")


def ship(
    image: str,
    *servers: str,
    inventory: Path = INVENTORY,
    message: str = "",
    skip_gate: bool = False,
    reason: str = "",
    trust: bool = False,
    allow_downgrade: bool = False,
    dry_run: bool = False,
) -> None:
    """Roll a release out to edge servers: send only missing layers, gate it on each, switch without losing a request.

    Wave by wave. A server whose certificate or gate refuses the release keeps its old one. Exit status 0: it is live on
    all servers; 1: it is not.

    Args:
        image: the tag of an image on this machine's engine
        servers: names in the inventory; by default all
        inventory: the TOML file of the servers; see examples/inventory.toml
        message: a note for the servers' audit
        skip_gate: switch to the release without running the gate; needs a reason
        reason: why the gate is skipped; kept in the servers' audit
        trust: trust the image's signing key on servers that do not know it yet; see image sign
        allow_downgrade: ship a release that was signed before the one that a server has; see rollback
        dry_run: print what would be done on each server, and change nothing
    """
    from deploy.ship.ship import plan_rollout, ship_from_engine
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import board, plan_page

    request = _read_request(inventory, servers, message, _skip_reason(skip_gate, reason), trust, allow_downgrade)
    if dry_run:
        planned = plan_rollout(image, request)
        print(plan_page(planned), end="\n\n")
        print(as_json({"image": image, "plan": planned}))
        return
    with board() as shown:
        fleet = ship_from_engine(image, request, shown.show_result)
    _print_result(fleet)


def pack(image: str, *, to: Path, for_: str = "", key: Path | None = None) -> None:
    """Write a release to a file for servers that this machine cannot reach (air-gapped); see unpack.

    Args:
        image: the tag of an image on this machine's engine
        to: the file
        for_: server names, separated by commas; packs only the layers that they lacked when last reached
        key: a file with the private key that the image is signed with; by default this toolchain's own
    """
    from contextlib import closing

    from deploy.docker.engine import connect
    from deploy.servers.release_image import read_release_image
    from deploy.ship.offline import write_offline_bundle
    from toolchain.records.storage import check_output_path
    from toolchain.views.bundle import as_json

    check_output_path(to, "--to")
    with closing(connect()) as client:
        sent = read_release_image(client, image)
        stick = write_offline_bundle(client, sent, tuple(filter(None, for_.split(","))), to, key)
    size = to.stat().st_size
    print(as_json({"file": str(to), "size_bytes": size, "image": image, "key": stick.key, "archives": stick.archives}))


def unpack(
    stick: Path,
    *servers: str,
    inventory: Path = INVENTORY,
    message: str = "",
    skip_gate: bool = False,
    reason: str = "",
    trust: bool = False,
    allow_downgrade: bool = False,
) -> None:
    """Roll out a release from a file that pack wrote, as ship does.

    Where this runs on the server itself, the server's address in the inventory is `local`.

    Args:
        stick: the file
        servers: names in the inventory; by default all
        inventory: the TOML file of the servers
        message: a note for the servers' audit
        skip_gate: switch to the release without running the gate; needs a reason
        reason: why the gate is skipped; kept in the servers' audit
        trust: trust the image's signing key on servers that do not know it yet
        allow_downgrade: roll out a release that was signed before the one that a server has; see rollback
    """
    from deploy.ship.ship import ship_from_bundle
    from toolchain.views.ship import board

    request = _read_request(inventory, servers, message, _skip_reason(skip_gate, reason), trust, allow_downgrade)
    with board() as shown:
        fleet = ship_from_bundle(stick, request, shown.show_result)
    _print_result(fleet)


def rollback(
    *servers: str,
    inventory: Path = INVENTORY,
    release: str | None = None,
    model: str | None = None,
    message: str = "",
) -> None:
    """Go back to a release whose image is still on the servers, without losing a request; no gate runs.

    Args:
        servers: names in the inventory; by default all
        inventory: the TOML file of the servers
        release: by default the one that served before
        model: the model's name, if a server serves several
        message: a note for the servers' audit
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import ShipRequest, roll_back
    from toolchain.views.ship import board

    request = ShipRequest(read_inventory(inventory), servers, message)
    with board() as shown:
        fleet = roll_back(release, model, request, shown.show_result)
    _print_result(fleet)


def servers(*names: str, inventory: Path = INVENTORY) -> None:
    """List each server's processor, GPU, cores, memory, free disk, engine, and the release that serves.

    Args:
        names: names in the inventory; by default all
        inventory: the TOML file of the servers
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.server_info import read_server_info
    from deploy.ship.ship import ShipRequest
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import servers_table

    infos = read_server_info(ShipRequest(read_inventory(inventory), names))
    print(servers_table(infos), end="\n\n")
    print(as_json({"servers": infos}))
    if any(info.error for info in infos):
        raise SystemExit(1)


def status(*names: str, inventory: Path = INVENTORY) -> None:
    """List what serves on each server, whether it is ready, the releases to roll back to, and the last action.

    Args:
        names: names in the inventory; by default all
        inventory: the TOML file of the servers
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import ShipRequest, read_status
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import status_table

    deployed = read_status(ShipRequest(read_inventory(inventory), names))
    print(status_table(deployed), end="\n\n")
    print(as_json({"servers": deployed}))
    if any(model.error or (model.live and not model.serves) for model in deployed):
        raise SystemExit(1)


def audit(
    *names: str, inventory: Path = INVENTORY, model: str | None = None, verify: bool = False, key: str = ""
) -> None:
    """List the servers' own audit records: when, who, what, why, and the outcome.

    Exit status 1: a server's audit could not be read or, with --verify, is not whole.

    Args:
        names: names in the inventory; by default all
        inventory: the TOML file of the servers
        model: the model's name, if a server serves several
        verify: check instead that no line was cut out, changed, moved or inserted
        key: with verify, public keys of other toolchains that write there, in base64 or in files, separated by commas
    """
    from deploy.certificates import read_trusted_keys
    from deploy.servers.inventory import read_inventory
    from deploy.ship.audits import check_audits, read_audits
    from deploy.ship.ship import ShipRequest
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import audit_check_page, audit_page

    request = ShipRequest(read_inventory(inventory), names)
    keys = read_trusted_keys(key)
    if keys and not verify:
        raise UsageError("--key goes with --verify")
    if verify:
        checks = check_audits(request, model, keys)
        print(audit_check_page(checks), end="\n\n")
        print(as_json({"verified": all(check.passed for check in checks.values()), "servers": checks}))
        if not all(check.passed for check in checks.values()):
            raise SystemExit(1)
        return
    found = read_audits(request, model)
    print(audit_page(found), end="\n\n")
    errors = {one.server: one.error for one in found if one.error}
    print(as_json({"servers": {one.server: one.entries for one in found if not one.error}, "errors": errors}))
    if errors:
        raise SystemExit(1)


def logs(
    server: str,
    *,
    inventory: Path = INVENTORY,
    release: str | None = None,
    model: str | None = None,
    lines: int = 100,
) -> None:
    """Print the last log lines of a server's container.

    Args:
        server: its name in the inventory
        inventory: the TOML file of the servers
        release: whose container; by default the one that serves
        model: the model's name, if a server serves several
        lines: how many
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import ShipRequest, read_logs

    print(read_logs(ShipRequest(read_inventory(inventory), (server,)), model, release, lines), end="")


def unlock(server: str, *, inventory: Path = INVENTORY, model: str | None = None) -> None:
    """Remove the lock of a run that is known to have ended, for example on another machine.

    Args:
        server: its name in the inventory
        inventory: the TOML file of the servers
        model: the model's name, if a server serves several
    """
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import ShipRequest, remove_lock
    from toolchain.views.bundle import as_json

    request = ShipRequest(read_inventory(inventory), (server,))
    print(as_json({"server": server, "unlocked": remove_lock(request, model)}))


def _read_request(
    inventory: Path, servers: tuple[str, ...], message: str, skip_reason: str, trust: bool, allow_downgrade: bool
) -> "ShipRequest":
    """What is asked of the servers of an inventory; says once which of them are open."""
    from deploy.servers.inventory import read_inventory
    from deploy.ship.ship import ShipRequest, warn_of_open_servers

    request = ShipRequest(
        read_inventory(inventory), servers, message, skip_reason, trust, allow_downgrade=allow_downgrade
    )
    warn_of_open_servers(request)
    return request


def _skip_reason(skip_gate: bool, reason: str) -> str:
    """Why the gate is skipped, "" where it runs."""
    if skip_gate != bool(reason):
        raise UsageError("--skip-gate and --reason go together; give both, or let the gate run")
    return reason


def _print_result(fleet: "WavesResult") -> None:
    from toolchain.views.bundle import as_json
    from toolchain.views.ship import fleet_page
    from toolchain.webhook import rollout_event, send_event

    print(fleet_page(fleet), end="\n\n")
    print(as_json({"complete": fleet.is_complete, "servers": fleet.results, "left": fleet.not_started}))
    send_event(rollout_event(fleet))
    if not fleet.is_complete:
        raise SystemExit(1)
