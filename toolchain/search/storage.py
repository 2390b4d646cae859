"""Where trials are kept: Optuna's own storage in SQLite or PostgreSQL, which optuna-dashboard reads as it is.

A process that dies leaves a running trial: on SQLite the next process takes it up at once, since it alone holds the
search's lock; elsewhere Optuna's heartbeat tells.
"""

import fcntl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from toolchain.errors import RecipeError, RecordError, UsageError
from toolchain.installation import explain_missing
from toolchain.paths import home

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study

HEARTBEAT_S, GRACE_S, RETRIES = 20, 60, 3
IDENTITY = "identity"
LONGEST = 60  # letters of a value in a message
SHOWN = 3  # differences between two studies, at most
ADVICE = "give another: --storage=FILE.sqlite or --storage=postgresql://user:password@host/database"


def storage_url(storage: str | None) -> sql.URL:
    """Of `storage`: a database URL, or a file's path; by default search.sqlite below home(). UsageError for what is
    neither."""
    text = storage or str(home() / "search.sqlite")
    if "://" not in text:
        return sql.URL.create("sqlite", database=str(Path(text).absolute()))
    try:
        url = sql.make_url(text.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError) as error:
        raise UsageError(f"--storage: the URL cannot be read; {ADVICE}") from error  # it may hold a password
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database:
        return url
    raise UsageError(f"{show_url(url)}: trials cannot be kept there; {ADVICE}")


def show_url(url: sql.URL) -> str:
    """For messages: a file's path, or a URL without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or ""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


@contextmanager
def hold_search(url: sql.URL, name: str) -> Iterator[bool]:
    """Whether this process is the only one at the study. UsageError where an SQLite file has one at it already."""
    if url.get_backend_name() != "sqlite":
        yield False
        return
    database = Path(url.database or "")
    place = database.with_name(f"{database.name}.{name}.lock")
    try:
        file = place.open("w")  # open_storage() has made the folder
    except OSError as error:
        raise RecordError(f"{place.parent}: trials cannot be kept there: {error.strerror}; {ADVICE}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another search of '{name}' is at work in {show_url(url)}; wait for it, or give both "
                "--storage=postgresql://… to share the work"
            ) from error
        yield True


def open_study(url: sql.URL, storage: "RDBStorage", name: str, identity: Mapping[str, Any]) -> "Study":
    """The study `name`, made where there is none: latency and lost accuracy, both as small as can be. RecipeError where
    it is of something else than `identity`."""
    import optuna

    with explain_storage(url):
        study = optuna.create_study(
            study_name=name, storage=storage, directions=["minimize", "minimize"], load_if_exists=True
        )
        known = study.user_attrs.get(IDENTITY) if study.get_trials(deepcopy=False) else None
        if known is None:
            with _without_warnings():
                study.set_metric_names(["latency as a share of the uncut net's", "points of accuracy lost"])
            study.set_user_attr(IDENTITY, msgspec.to_builtins(identity))
    _require_same(name, url, known, identity)
    return study


@contextmanager
def explain_storage(url: sql.URL) -> Iterator[None]:
    """RecordError, in one line, for whatever the database refuses while the block runs."""
    from optuna.exceptions import OptunaError

    try:
        yield
    except (SQLAlchemyError, OptunaError) as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
        lines = str(getattr(cause, "orig", None) or cause).strip().splitlines() or [type(error).__name__]
        raise RecordError(f"{show_url(url)}: trials cannot be kept there: {lines[0]}; {ADVICE}") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Of what Optuna calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_storage(url: sql.URL) -> "RDBStorage":
    """RecordError for a database that cannot be reached, UsageError where Optuna is not installed."""
    if reason := explain_missing("optuna"):
        raise UsageError(f"toolchain search needs Optuna: {reason}")
    import optuna
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    is_sqlite = url.get_backend_name() == "sqlite"
    wait = {"timeout": 30} if is_sqlite else {"connect_timeout": 10}
    if is_sqlite:
        try:
            Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(f"{show_url(url)}: trials cannot be kept there: {error.strerror}; {ADVICE}") from error
    with explain_storage(url), _without_warnings():
        return RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": wait},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
        )


def close_storage(storage: "RDBStorage") -> None:
    """End its connections."""
    storage.remove_session()
    storage.engine.dispose()


def _require_same(name: str, url: sql.URL, known: Any, identity: Mapping[str, Any]) -> None:
    there, here = _flatten(known or identity), _flatten(msgspec.to_builtins(identity))
    differing = [key for key in sorted(there | here) if there.get(key) != here.get(key)]
    if differing:
        shown = "; ".join(
            f"{key} = {_shorten(there.get(key))} there, {_shorten(here.get(key))} here" for key in differing[:SHOWN]
        )
        more = f"; and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        raise RecipeError(
            f"study '{name}' in {show_url(url)} is of something else, so the two cannot be compared: {shown}{more}; "
            "give this recipe another `name`, or another --storage"
        )


def _shorten(value: Any) -> str:
    """A value as it is, but for digests of many files."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{sha256(text.encode()).hexdigest()[:12]} (sha256)"


def _flatten(value: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {place: list(value) if isinstance(value, tuple) else value}
    return {
        key: inner
        for name, member in value.items()
        for key, inner in _flatten(member, f"{place}.{name}".lstrip(".")).items()
    }


def take_up_dead_trials(study: "Study") -> int:
    """Queue again what a process that is no more was at; how many those are. Only for who holds the search alone."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        study.tell(trial.number, state=TrialState.FAIL)
        queue_trial(study, trial.params, trial.user_attrs)
    return len(running)


def queue_trial(study: "Study", params: Mapping[str, Any], attrs: Mapping[str, Any]) -> None:
    """Run a trial of these parameters next. Of its attributes only the rung is what it was queued for."""
    from toolchain.search.outcomes import RUNG

    study.enqueue_trial(dict(params), user_attrs={RUNG: attrs[RUNG]} if RUNG in attrs else {})
