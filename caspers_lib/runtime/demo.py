"""`caspers demo`: the whole business in this process, once or live, with its console.

Contract: DESIGN section 10.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Event, Thread

from caspers_lib.console.access import ConsoleAccess, access_from_environment
from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.console.source import LiveStatus
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncSpec
from caspers_lib.replay.state import StateStore
from caspers_lib.runtime.catalog import delta_rows, delta_tables, last_commit
from caspers_lib.runtime.demo_console import (
    DemoControls,
    TableNow,
    demo_status,
    event_time,
)
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import Owner, owned, write_owner
from caspers_lib.runtime.stages import Progress, Stage, run_stages

__all__ = ["Demo", "RoundResult", "stop_on_signals"]

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round left behind.

    Args:
        seconds: wall-clock time it took.
        event_time: emitted time up to which events are written, UTC.
        tables: rows by `schema.table`.
    """

    seconds: float
    event_time: datetime | None
    tables: dict[str, int]


@dataclass
class Demo:
    """A demo on one ROOT.

    Args:
        business: the parts it runs.
        host: the console's address.
        port: the console's port; 0 picks a free one.
        tick_seconds: wall-clock seconds between two ticks of the live replay.
        progress: what the stages report.
        command: what owns ROOT, as others read it.
        access: who may do what in the console; as the variables `CONSOLE_...` say.
    """

    business: LocalBusiness
    host: str = "127.0.0.1"
    port: int = 8000
    tick_seconds: float = 3.0
    progress: Progress = field(default_factory=Progress)
    command: str = "caspers demo"
    access: ConsoleAccess = field(default_factory=lambda: access_from_environment(os.environ))
    url: str | None = None
    _tables: dict[str, TableNow] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Own ROOT and serve the console for the block; stop every server after it.

        Raises:
            RootError, RootLockedError: ROOT can't be owned.
            DatasetError, ReplayStateError, SettingsError, JavaError: the business can't run.
            ConsoleError: the port is in use.
        """
        root = self.business.root
        owner = replace(
            Owner.this_process(self.command, self.business.dataset_file),
            tick_seconds=self.tick_seconds,
        )
        with owned(root, owner):
            self.business.check()
            try:
                with self._served() as server:
                    self.url = self.business.page_url = server.url
                    write_owner(root, replace(owner, url=server.url))
                    yield
            finally:
                self.business.stop()

    def first_round(
        self, stopping: Callable[[], bool] = lambda: False, *, target: str = "all"
    ) -> RoundResult:
        """Start everything and take all events through the target's tables.

        Raises:
            SettingsError: there is no such target.
        """
        return self._round(self.business.start_up(target), stopping)

    def live(self, stop: Event, on_round: Callable[[RoundResult], None]) -> None:
        """Tick and take what is new through every table, until `stop` is set.

        Args:
            stop: ends the demo after the stages that are running.
            on_round: called after each round.
        """
        ticker = _Ticker(self.business, self.tick_seconds, stop)
        ticker.start()
        try:
            while not stop.is_set():
                on_round(self._round(self.business.round(), stop.is_set))
                stop.wait(0.5)
        finally:
            stop.set()
            ticker.join()
        if ticker.error is not None:
            raise ticker.error

    def live_status(self) -> LiveStatus:
        """What the console shows besides Postgres."""
        state = self._replay_state().load()
        return demo_status(state, self.progress.snapshot(), self._tables, self.business.now())

    @contextmanager
    def _served(self) -> Iterator[ConsoleServer]:
        """The console, up for the block; its connections end with it."""
        with (
            closing(self._database(REFUNDS)) as refunds,
            closing(self._database(COMPLAINTS)) as complaints,
        ):
            parts = ConsoleParts(
                refunds=refunds,
                complaints=complaints,
                tables=self.business.synced_tables,
                status=self.live_status,
                controls=DemoControls(self._replay_state(), self.business.now),
                access=self.access,
                host=self.host,
            )
            with ConsoleServer(create_app(parts), host=self.host, port=self.port) as server:
                yield server

    def _database(self, spec: SyncSpec) -> ConsoleDatabase:
        return ConsoleDatabase(spec.database, lambda: self.business.dsn(spec))

    def _replay_state(self) -> StateStore:
        return StateStore(self.business.root.replay_state)

    def _round(self, stages: Sequence[Stage], stopping: Callable[[], bool]) -> RoundResult:
        started = time.monotonic()
        run_stages(stages, self.progress, stopping=stopping)
        root = self.business.root
        tables = delta_tables(root.warehouse, root.schemas)
        self._tables = {
            name: TableNow(delta_rows(path), last_commit(path)) for name, path in tables.items()
        }
        return RoundResult(
            time.monotonic() - started,
            event_time(self._replay_state().load()),
            {name: table.rows for name, table in self._tables.items()},
        )


class _Ticker(Thread):
    """Ticks the replay beside the rounds; an error ends the demo."""

    def __init__(self, business: LocalBusiness, seconds: float, stop: Event) -> None:
        super().__init__(name="replay-ticker", daemon=True)
        self._business, self._seconds, self._stop_event = business, seconds, stop
        self.error: Exception | None = None

    def run(self) -> None:
        while not self._stop_event.wait(self._seconds):
            try:
                self._business.tick(stopping=self._stop_event.is_set)
            except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
                self.error = error
                self._stop_event.set()


@contextmanager
def stop_on_signals(on_stop: Callable[[], None]) -> Iterator[Event]:
    """An event that SIGINT and SIGTERM set; a second signal ends the process at once.

    Every write is safe to be cut off, so ending at once loses nothing: the JVM and PostgreSQL
    notice and end by themselves.
    """
    stop = Event()

    def handle(_signal: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(_INTERRUPTED)
        stop.set()
        on_stop()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
