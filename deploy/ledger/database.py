"""One way to open SQLite and PostgreSQL for several writers at once, with errors in one line.

Knows nothing of the tables' meaning.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from deploy.ledger.schema import FORMAT, MIGRATIONS, formats, metadata
from toolchain.errors import RecordError

WAIT_S = 30
# any number, the same for all: who holds this PostgreSQL lock may create the tables
CREATING = 0x65646765
ADVICE = "give another by TOOLCHAIN_LEDGER: a file's path or postgresql://user:password@host/database"


def database_url(place: str | Path) -> sql.URL:
    """A URL of a database that the ledger can use; a plain path is an SQLite file. RecordError for anything else."""
    text = str(place)
    if "://" not in text:
        return sql.URL.create("sqlite", database=str(Path(text).absolute()))
    if text.startswith("postgres://"):
        text = text.replace("postgres://", "postgresql://", 1)
    try:
        url = sql.make_url(text)
    except (ArgumentError, ValueError) as error:
        # the text may hold a password: it is not shown
        raise RecordError(f"the ledger's URL cannot be read; {ADVICE}") from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database:
        raise RecordError(f"{shown(url)}: no ledger can be kept there; {ADVICE}")
    return url


def shown(url: sql.URL) -> str:
    """The place for a person: an SQLite file's path, or a URL without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or ""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def engine_for(url: sql.URL) -> sql.Engine:
    """An engine whose writers wait for each other. Nothing is opened yet."""
    if url.get_backend_name() == "postgresql":
        return sql.create_engine(url, connect_args={"connect_timeout": 10})
    # SQLite would begin as a reader and fail, not wait, when it has to become a writer: so every transaction
    # that writes says so at once, and then `timeout` holds
    engine = sql.create_engine(url, connect_args={"timeout": WAIT_S, "isolation_level": None})

    @sql.event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def prepare(engine: sql.Engine) -> None:
    """Make the tables where there are none, bring older ones up to date; RecordError when they are of a newer format.
    One process at a time."""
    if engine.url.get_backend_name() == "sqlite":
        Path(engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)
    with transaction(engine, writes=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(CREATING)))
        if not sql.inspect(connection).has_table(formats.name):
            metadata.create_all(connection)
            connection.execute(formats.insert().values(format=FORMAT))
        found = connection.scalar(sql.select(sql.func.max(formats.c.format)))
        if found is None or found > FORMAT:
            place = shown(engine.url)
            raise RecordError(f"{place}: ledger format {found}, this toolchain reads {FORMAT}; update the toolchain")
        for older in range(found, FORMAT):
            MIGRATIONS[older](connection)
        if found < FORMAT:
            connection.execute(formats.update().values(format=FORMAT))


@contextmanager
def transaction(engine: sql.Engine, writes: bool) -> Iterator[sql.Connection]:
    """All of the block or nothing; RecordError in one line for what the database refuses."""
    try:
        with engine.execution_options(writes=writes).begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()
        said = "; ".join(cause[:2]) if cause else type(error).__name__
        raise RecordError(f"{shown(engine.url)}: the ledger cannot be used: {said}; {_cure(said)}") from error


def _cure(said: str) -> str:
    if "not a database" in said or "malformed" in said:
        return "move that file away, and a new ledger is begun"
    if "locked" in said:
        return f"another process has held it for {WAIT_S} s; end it and try again"
    return ADVICE
