"""The verbs that tell what the ledger knows, `history` and `report`, thin as those of cli.py."""

import logging
from pathlib import Path

from toolchain.errors import UsageError

logger = logging.getLogger(__name__)


LOOKED_BACK = 100  # reports, for changes of level


def history(name: str | None = None, *, limit: int = 20, plot: Path | None = None, ledger: str | None = None) -> None:
    """Releases by device with their accuracy, latency and size, newest first; warns where a level changed.

    Args:
        name: a model's name; without it all of them
        limit: how many rows
        plot: draw p50 by release into this .png or .svg
        ledger: a database URL; without it $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.ledger.change_points import find_release_changes
    from deploy.ledger.ledger import Ledger
    from toolchain.views.bundle import as_json, history_table

    if limit < 1:
        raise UsageError(f"--limit={limit}: expected 1 or more")
    with Ledger(ledger) as book:
        known = book.history(name, max(limit, LOOKED_BACK))
    rows, changes = known[:limit], find_release_changes(known)
    if plot:
        from toolchain.report.plots import picture, trend

        drawn = trend(rows, changes)
        if drawn is None:
            raise UsageError("--plot: no release here was measured yet; measure one: toolchain bench")
        picture(drawn, plot)
    print(history_table(rows), end="\n\n")
    for one in changes:
        logger.warning(f"warning: {one.sentence}")
    print(as_json({"rows": rows, "changes": changes}))


def export(name: str | None = None, *, out: Path | None = None, ledger: str | None = None) -> None:
    """Write the ledger as JSON lines: every release, certificate, report and gate, whole.

    Args:
        name: of one model only
        out: the file; without it the lines go to stdout
        ledger: a database URL; without it $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
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


def import_(lines: Path, *, ledger: str | None = None) -> None:
    """Take what `toolchain export` wrote into the ledger; what is there already stays as it is.

    Args:
        lines: the file
        ledger: a database URL; without it $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.ledger.jsonl import load_jsonl
    from deploy.ledger.ledger import Ledger
    from toolchain.views.bundle import as_json

    try:
        file = lines.open("rb")
    except OSError as error:
        raise UsageError(f"{lines}: {error.strerror}; expected what `toolchain export --out=…` wrote") from error
    with file, Ledger(ledger) as book:
        counts = load_jsonl(book, file, str(lines))
    print(as_json({"taken": dict(sorted(counts.items()))}))


def report(name: str, *, release: str | None = None, out: Path | None = None, ledger: str | None = None) -> None:
    """Write a release's report: one HTML page, each plot as SVG and PNG, a summary for a pull request.

    Args:
        name: the model's name, as in its recipe
        release: which one; without it the newest in the ledger
        out: the folder to write; without it .toolchain/reports/NAME-RELEASE
        ledger: a database URL; without it $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.ledger.ledger import Ledger
    from toolchain.paths import home
    from toolchain.report.content import told
    from toolchain.report.writer import written
    from toolchain.views.bundle import as_json

    with Ledger(ledger) as book:
        found = told(name, release, book)
    folder = out or home() / "reports" / f"{name}-{found.manifest.release}"
    print(as_json({"release": found.manifest.release, **written(found, folder)}))
