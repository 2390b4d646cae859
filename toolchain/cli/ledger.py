"""The commands of the ledger, and the report on a release."""

import logging
from pathlib import Path

from toolchain.errors import UsageError

logger = logging.getLogger(__name__)


LOOKED_BACK = 100  # reports, for changes of level


def ledger_history(
    name: str | None = None, *, limit: int = 20, plot: Path | None = None, ledger: str | None = None
) -> None:
    """List releases by device with accuracy, latency and size, newest first; warns where a level changed.

    Args:
        name: a model's name; by default all models
        limit: how many rows
        plot: also plot p50 by release into this .png or .svg file
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.ledger.change_points import find_release_changes
    from deploy.ledger.ledger import Ledger
    from toolchain.views.bundle import as_json, history_table, saturation_line

    if limit < 1:
        raise UsageError(f"--limit={limit}: expected 1 or more")
    with Ledger(ledger) as book:
        known = book.history(name, max(limit, LOOKED_BACK))
        outcomes = book.saturation_outcomes(name)
    rows, changes = known[:limit], find_release_changes(known)
    if plot:
        from toolchain.report.plots import trend, write_plot

        drawn = trend(rows, changes)
        if drawn is None:
            raise UsageError("--plot: no release here was measured yet; measure one: toolchain bench")
        write_plot(drawn, plot)
    print(history_table(rows), end="\n\n")
    for change in changes:
        logger.warning(f"warning: {change.sentence}")
    if outcomes:
        logger.info(saturation_line(outcomes))
    hits = sum(outcome.is_hit for outcome in outcomes)
    print(as_json({"rows": rows, "changes": changes, "saturation": {"predictions": len(outcomes), "hits": hits}}))


def ledger_export(name: str | None = None, *, out: Path | None = None, ledger: str | None = None) -> None:
    """Write the ledger as JSON lines: every release, certificate, report and gate in full.

    Args:
        name: only this model
        out: the file; by default the lines go to stdout
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    import sys

    from deploy.ledger.jsonl import dump_jsonl
    from deploy.ledger.ledger import Ledger
    from toolchain.records.storage import check_output_path, write_atomically
    from toolchain.views.bundle import as_json

    with Ledger(ledger) as book:
        lines = dump_jsonl(book, name)
        if out is None:
            for line in lines:
                sys.stdout.write(line.decode() + "\n")
            return
        check_output_path(out)
        held = [line + b"\n" for line in lines]
    write_atomically(out, b"".join(held))
    print(as_json({"lines": len(held), "out": str(out)}))


def ledger_import(file: Path, *, key: str = "", allow_unsigned: bool = False, ledger: str | None = None) -> None:
    """Add the records that `toolchain ledger export` wrote; records that are already there stay as they are.

    A certificate is refused unless it is signed, and its key and bundle are those of the device and release it names.

    Args:
        file: the file of JSON lines
        key: public keys of the only devices whose certificates are accepted, in base64 or in files, separated by commas
        allow_unsigned: also accept certificates from before they were signed
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.certificates import read_trusted_keys
    from deploy.ledger.jsonl import load_jsonl
    from deploy.ledger.ledger import Ledger
    from toolchain.views.bundle import as_json

    keys = read_trusted_keys(key)
    try:
        lines = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; expected what `toolchain ledger export --out=…` wrote") from error
    with lines, Ledger(ledger) as book:
        counts = load_jsonl(book, lines, str(file), keys, allow_unsigned)
    print(as_json({"taken": dict(sorted(counts.items()))}))


def report(name: str, *, release: str | None = None, out: Path | None = None, ledger: str | None = None) -> None:
    """Write the report on a release: an HTML page, its plots as SVG and PNG, a summary for a pull request.

    Args:
        name: the model's name, as in its recipe
        release: by default the newest in the ledger
        out: the folder to write; by default .toolchain/reports/NAME-RELEASE
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from toolchain.report.release_report import report_release
    from toolchain.views.bundle import as_json

    print(as_json(report_release(name, release, out, ledger)))
