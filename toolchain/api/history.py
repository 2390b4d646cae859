"""`toolchain.history`: the ledger as a pandas DataFrame."""

from typing import TYPE_CHECKING

from toolchain.errors import UsageError

if TYPE_CHECKING:
    import pandas


def read_history(name: str | None = None, *, limit: int = 20, ledger: str | None = None) -> "pandas.DataFrame":
    """Releases by device with accuracy, latency and size, newest first, as by `toolchain ledger history`.

    Args:
        name: a model's name; by default all models
        limit: how many rows
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite

    Raises:
        errors.UsageError: pandas is not installed (the extra `notebook`)

    Example:
        >>> edge.history(bundle.name)["release"].tolist()
        ['1']
    """
    if limit < 1:
        raise UsageError(f"history: limit={limit}: expected 1 or more")
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise UsageError("history: pandas is not installed; pip install 'edge-toolchain[notebook]'") from error
    from deploy.ledger.history import HistoryRow
    from deploy.ledger.ledger import Ledger

    columns = HistoryRow.__struct_fields__
    with Ledger(ledger) as book:
        rows = [[getattr(row, column) for column in columns] for row in book.history(name, limit)]
    frame = pandas.DataFrame(rows, columns=list(columns))
    frame["at"] = pandas.to_datetime(frame["at"], format="ISO8601", utc=True)
    return frame
