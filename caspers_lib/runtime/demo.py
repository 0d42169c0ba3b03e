"""`caspers demo`: the whole business in this process, once or live, with its console."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Event, Thread

from caspers_lib.console.access import ConsoleAccess, access_from_environment
from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.console.source import LiveStatus
from caspers_lib.errors import CaspersError, first_cause, is_disk_full
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
from caspers_lib.runtime.stages import (
    Progress,
    RetryPolicy,
    Stage,
    StageFailure,
    run_stages,
)

__all__ = ["Demo", "RoundResult", "stop_on_signals"]

_INTERRUPTED = 130
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round left behind.

    Args:
        seconds: wall-clock time it took.
        event_time: emitted time up to which events are written, UTC.
        tables: rows by `schema.table`.
        failures: the stages that failed for good.
    """

    seconds: float
    event_time: datetime | None
    tables: dict[str, int]
    failures: tuple[StageFailure, ...] = ()


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
        target: the tasks of the first round, one of `task_graph.TARGETS`.
        retry: how often a stage is tried in a round.
    """

    business: LocalBusiness
    host: str = "127.0.0.1"
    port: int = 8000
    tick_seconds: float = 3.0
    progress: Progress = field(default_factory=Progress)
    command: str = "caspers demo"
    access: ConsoleAccess = field(default_factory=lambda: access_from_environment(os.environ))
    target: str = "all"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
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
        with owned(root, owner, self.business.domain):
            self.business.check(self.target)
            try:
                with self._served() as server:
                    self.url = self.business.page_url = server.url
                    write_owner(root, replace(owner, url=server.url))
                    yield
            finally:
                self.business.stop()

    def backlog(self) -> timedelta | None:
        """Event time from what is written to the clock's; None before the first round of ROOT."""
        state = self._replay_state().load()
        if state is None or state.watermark is None:
            return None
        seconds = state.clock.virtual_time(self.business.now()) - state.watermark
        return timedelta(seconds=max(0.0, seconds))

    def first_round(self, stopping: Callable[[], bool] = lambda: False) -> RoundResult:
        """Start everything and take all events through the target's tables.

        Raises:
            SettingsError: there is no such target.
        """
        return self._round(self.business.start_up(self.target), stopping)

    def raise_failures(self, result: RoundResult, again: str) -> None:
        """Raise the first failure of a round that nothing follows.

        Args:
            result: the round.
            again: the command that goes on from there.

        Raises:
            CaspersError: a stage failed.
        """
        if not result.failures:
            return
        first = result.failures[0].error
        names = ", ".join(failure.stage for failure in result.failures)
        left = [r.name for r in self.progress.snapshot() if r.state == "waiting"]
        hint = f"`{again}` goes on from there"
        if left:
            hint = f"{', '.join(left)} did not run; {hint}"
        if isinstance(first, CaspersError) and first.hint:
            hint = f"{first.hint.rstrip('.')}; {hint}"
        kind = type(first) if isinstance(first, CaspersError) else CaspersError
        raise kind(f"{names}: {first_cause(first)}", hint=hint) from first

    def live(self, stop: Event, on_round: Callable[[RoundResult], None]) -> None:
        """Tick and take what is new through every table, until `stop` is set.

        A stage that fails is tried again by the next round. What no round can cure ends the demo.

        Args:
            stop: ends the demo after the stages that are running.
            on_round: called after each round.

        Raises:
            ReplayStateError: the replay's state is broken.
            Exception: the disk is full.
        """
        ticker = _Ticker(self, stop)
        ticker.start()
        try:
            while not stop.is_set():
                result = self._round(self.business.round(), stop.is_set)
                on_round(result)
                self.raise_incurable(result.failures)
                stop.wait(self.retry.round_pause if result.failures else _PAUSE_SECONDS)
        finally:
            stop.set()
            ticker.join()
        if ticker.error is not None:
            raise ticker.error

    def raise_incurable(self, failures: Sequence[StageFailure]) -> None:
        """Raise what keeps every further round from writing.

        Args:
            failures: what failed just now.

        Raises:
            ReplayStateError: the replay's state is broken.
            Exception: the disk is full.
        """
        for failure in failures:
            if is_disk_full(failure.error):
                raise CaspersError(
                    f"{failure.stage}: {first_cause(failure.error)}",
                    hint="make room, then run it again: it goes on where it stopped",
                ) from failure.error
        if failures:
            self._replay_state().load()

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
        failures = run_stages(stages, self.progress, retry=self.retry, stopping=stopping)
        root, reached = self.business.root, None
        try:
            reached = event_time(self._replay_state().load())
            self._tables = {
                name: TableNow(delta_rows(path), last_commit(path))
                for name, path in delta_tables(root.warehouse, root.schemas).items()
            }
        except (CaspersError, OSError) as error:
            failures = (*failures, StageFailure("Table_Counts", error))
        return RoundResult(
            time.monotonic() - started,
            reached,
            {name: table.rows for name, table in self._tables.items()},
            failures,
        )


class _Ticker(Thread):
    """Writes events beside the rounds; a tick that fails is followed by the next one."""

    def __init__(self, demo: Demo, stop: Event) -> None:
        super().__init__(name="replay-ticker", daemon=True)
        self._demo, self._stop_event = demo, stop
        self.error: Exception | None = None

    def run(self) -> None:
        demo, stop = self._demo, self._stop_event
        write = partial(demo.business.write_events, stopping=stop.is_set)
        stage = Stage("Canonical_Data", write)
        while not stop.wait(demo.tick_seconds):
            failures = run_stages(
                [stage], demo.progress, retry=RetryPolicy(attempts=1), stopping=stop.is_set
            )
            try:
                demo.raise_incurable(failures)
            except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
                self.error = error
                stop.set()


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
