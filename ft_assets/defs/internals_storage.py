"""Dagster's SQLite storages, kept from doing the same work again for each query: private names, as in `internals`.

Tried on Dagster 1.13.27.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Engine


@contextmanager
def kept_connections() -> Iterator[None]:
    """Has Dagster keep its connections to SQLite files, and the statements that it compiled for them.

    Dagster 1.13 makes an engine and a connection for each query, 500 in a refresh, and closing the last
    connection to a file has SQLite write it out. For each file it also reads 90 migrations again, to see
    that the file is of the last one. That is half of what recording a run costs.
    """
    from alembic.script import ScriptDirectory
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

    engines = _Engines()
    with ExitStack() as stack:
        stack.callback(engines.close)
        for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
            stack.enter_context(_replaced(module, "create_engine", engines.engine))
        read_once = _read_once(ScriptDirectory.from_config)
        stack.enter_context(_replaced(ScriptDirectory, "from_config", read_once))
        yield


@contextmanager
def _replaced(owner: Any, name: str, by: object) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, by)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _Engines:
    """Engines by the file that they are for. Any number of threads may use them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Engine] = {}

    def engine(self, url: str, **options: Any) -> "Engine":
        """What Dagster gets for SQLAlchemy's `create_engine`."""
        from sqlalchemy import QueuePool, create_engine

        key = (url, repr(options))
        if key not in self._kept:
            pool = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": -1}
            made = create_engine(url, **{**options, **pool})
            made.dispose = lambda close=True: None  # type: ignore[method-assign]  # called after each query
            self._kept[key] = made
        return self._kept[key]

    def close(self) -> None:
        """Closes all connections."""
        for engine in self._kept.values():
            engine.pool.dispose()


def _read_once(
    from_config: "Callable[[Config], ScriptDirectory]",
) -> "Callable[[Config], ScriptDirectory]":
    """`from_config` that reads each folder of migrations once."""
    known: dict[str | None, ScriptDirectory] = {}

    def read(config: "Config") -> "ScriptDirectory":
        folder = config.get_main_option("script_location")
        if folder not in known:
            known[folder] = from_config(config)
        return known[folder]

    return read
