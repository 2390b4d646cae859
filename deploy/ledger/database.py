"""Opens SQLite and PostgreSQL for concurrent writers; database errors become one line.

Does not know what the tables mean.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from deploy.ledger.schema import FORMAT, MIGRATIONS, formats, metadata
from toolchain.errors import RecordError

WAIT_S = 30
# an arbitrary number: the holder of this PostgreSQL advisory lock may create the tables
SCHEMA_LOCK = 0x65646765
LEDGER_ADVICE = "set TOOLCHAIN_LEDGER to another: a file's path or postgresql://user:password@host/database"


def database_url(place: str | Path) -> sql.URL:
    """The URL of a database that the ledger can use; a plain path is an SQLite file. RecordError for anything else."""
    text = str(place)
    if "://" not in text:
        return sql.URL.create("sqlite", database=str(Path(text).absolute()))
    if text.startswith("postgres://"):
        text = text.replace("postgres://", "postgresql://", 1)
    try:
        url = sql.make_url(text)
    except (ArgumentError, ValueError) as error:
        # the text may contain a password, so it is not printed
        raise RecordError(f"the ledger's URL cannot be read; {LEDGER_ADVICE}") from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database:
        raise RecordError(f"{display_url(url)}: a ledger cannot be kept there; {LEDGER_ADVICE}")
    return url


def display_url(url: sql.URL) -> str:
    """For messages: the path of an SQLite file, or a URL without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or ""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def engine_for(url: sql.URL) -> sql.Engine:
    """An engine whose writers wait for each other. Opens nothing yet."""
    if url.get_backend_name() == "postgresql":
        return sql.create_engine(url, connect_args={"connect_timeout": 10})
    # SQLite begins every transaction as a reader, and upgrading it to a writer fails at once instead of waiting.
    # A transaction that writes therefore says so when it begins; `timeout` then applies.
    engine = sql.create_engine(url, connect_args={"timeout": WAIT_S, "isolation_level": None})

    @sql.event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def prepare(engine: sql.Engine) -> None:
    """Create missing tables and migrate older ones, one process at a time; RecordError for a newer format."""
    if engine.url.get_backend_name() == "sqlite":
        Path(engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)
    with transaction(engine, writes=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
        if not sql.inspect(connection).has_table(formats.name):
            metadata.create_all(connection)
            connection.execute(formats.insert().values(format=FORMAT))
        version = connection.scalar(sql.select(sql.func.max(formats.c.format)))
        if version is None or version > FORMAT:
            place = display_url(engine.url)
            raise RecordError(f"{place}: ledger format {version}, this toolchain reads {FORMAT}; update the toolchain")
        for older in range(version, FORMAT):
            MIGRATIONS[older](connection)
        if version < FORMAT:
            connection.execute(formats.update().values(format=FORMAT))


@contextmanager
def transaction(engine: sql.Engine, writes: bool) -> Iterator[sql.Connection]:
    """Commits the whole block or nothing; RecordError (one line) for whatever the database refuses."""
    try:
        with engine.execution_options(writes=writes).begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()
        reason = "; ".join(cause[:2]) if cause else type(error).__name__
        raise RecordError(
            f"{display_url(engine.url)}: the ledger cannot be used: {reason}; {_advice_for(reason)}"
        ) from error


def _advice_for(reason: str) -> str:
    if "not a database" in reason or "malformed" in reason:
        return "move that file away; a new ledger is then created"
    if "locked" in reason:
        return f"another process has locked it for {WAIT_S} s; end that process and try again"
    return LEDGER_ADVICE
