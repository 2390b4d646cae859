"""The verbs that tell what the ledger knows, `history` and `report`, thin as those of cli.py."""

from pathlib import Path

from toolchain.errors import UsageError


def history(name: str | None = None, *, limit: int = 20, plot: Path | None = None, ledger: str | None = None) -> None:
    """Releases by device with their accuracy, latency and size, newest first.

    Args:
        name: a model's name; without it all of them
        limit: how many rows
        plot: draw p50 by release into this .png or .svg
        ledger: a database URL; without it $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.ledger import Ledger
    from toolchain.printing import as_json, history_table

    with Ledger(ledger) as book:
        rows = book.history(name, limit)
    if plot:
        from toolchain.report.plots import picture, trend

        drawn = trend(rows)
        if drawn is None:
            raise UsageError("--plot: no release here was measured yet; measure one: toolchain bench")
        picture(drawn, plot)
    print(history_table(rows), end="\n\n")
    print(as_json({"rows": rows}))


def report(name: str, *, release: str | None = None, out: Path | None = None, ledger: str | None = None) -> None:
    """Write a release's report: one HTML page, each plot as SVG and PNG, a summary for a pull request.

    Args:
        name: the model's name, as in its recipe
        release: which one; without it the newest in the ledger
        out: the folder to write; without it .toolchain/reports/NAME-RELEASE
        ledger: a database URL; without it $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.ledger import Ledger
    from toolchain.home import home
    from toolchain.printing import as_json
    from toolchain.report.told import told
    from toolchain.report.writing import written

    with Ledger(ledger) as book:
        found = told(name, release, book)
    folder = out or home() / "reports" / f"{name}-{found.manifest.release}"
    print(as_json({"release": found.manifest.release, **written(found, folder)}))
