"""What the workspace of one kind shows, for its pages and for the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import Connection

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.decisions.cases import MOST_COUNTED, CaseFilter, CasePage, case_page
from caspers_lib.console.decisions.charts import Charts, case_charts
from caspers_lib.console.decisions.deciding import DecisionStore
from caspers_lib.console.decisions.figures import CaseFigures, CaseFiguresReader
from caspers_lib.console.decisions.order_story import OrderStory, complaint_text, order_story
from caspers_lib.console.decisions.values import UNDO_SECONDS, CaseKind
from caspers_lib.console.panels import Panel, explained
from caspers_lib.console.remembered import Remembered
from caspers_lib.lakebase import SyncSpec

__all__ = ["CaseStory", "Desk"]

_CHART_SECONDS = 60.0
_FEW_ANSWERS = 100_000
_UNDOABLE = """
    SELECT case_id FROM {trail} AS decision
    WHERE decided_at >= clock_timestamp() - make_interval(secs => %(seconds)s)
        AND person = %(person)s AND action NOT IN ('reverse', 'undo')
        AND NOT EXISTS (
            SELECT FROM {trail} AS later
            WHERE later.case_id = decision.case_id AND later.version > decision.version
        )
    ORDER BY decided_at
"""


@dataclass(frozen=True, slots=True)
class CaseStory:
    """What happened before a case.

    Args:
        order: its order.
        text: what the customer wrote, of a complaint; empty of a refund.
    """

    order: OrderStory
    text: str


class Desk:
    """One kind's workspace: its cases, their sums, and the orders behind them.

    Args:
        store: the cases and the decisions about them.
        orders: the database of the order tables.
        tables: the synced tables by name.
    """

    def __init__(
        self, store: DecisionStore, orders: ConsoleDatabase, tables: Mapping[str, SyncSpec]
    ) -> None:
        self.store, self.orders, self._tables = store, orders, tables
        self._figures = CaseFiguresReader(store.kind)
        self._charts = Remembered[Charts](lambda charts: _CHART_SECONDS if charts.days else 0.0)

    @property
    def kind(self) -> CaseKind:
        """What is decided about."""
        return self.store.kind

    @property
    def order_tables(self) -> tuple[SyncSpec, ...]:
        """The tables that an order's story is read from."""
        return tuple(self._tables[name] for name in ("events", "lines", "orders", "locations"))

    @property
    def texts(self) -> SyncSpec:
        """The table of what customers wrote."""
        return self._tables["complaint_texts"]

    def refreshed(self) -> Panel[int]:
        """Take in what came; a panel that says why that is not possible, if so."""
        return explained(
            self.store.database.name, (self.kind.spec,), lambda: Panel(self.store.refresh())
        )

    def page(
        self, connection: Connection, wanted: CaseFilter, shown: Sequence[str] = ()
    ) -> CasePage:
        """One page of the cases; of a small table all that fit are counted.

        Args:
            connection: of the store.
            wanted: the filter.
            shown: the cases that an open page shows already, which stay in their places.

        Raises:
            ConsoleError: the filter's `after` is of another list, or none.
            psycopg.Error: a table is missing, or the server can't answer.
        """
        few = self.store.answers <= _FEW_ANSWERS
        most = _FEW_ANSWERS if few else MOST_COUNTED
        return case_page(connection, self.kind, wanted, most=most, shown=shown)

    def undoable(self, connection: Connection, person: str) -> tuple[str, ...]:
        """The cases whose latest decision a person may still undo, in the order of the decisions.

        Args:
            connection: of the store.
            person: who decided.

        Raises:
            psycopg.Error: the trail is missing, or the server can't answer.
        """
        query = _UNDOABLE.format(trail=self.kind.trail).encode()
        values = {"seconds": UNDO_SECONDS, "person": person}
        return tuple(case_id for (case_id,) in connection.execute(query, values))

    def figures(self, connection: Connection) -> CaseFigures:
        """The cards' figures; sums over many answers are as of some seconds ago.

        Args:
            connection: of the store.

        Raises:
            psycopg.Error: the server can't answer.
        """
        return self._figures.read(connection)

    def charts(self, connection: Connection) -> Charts:
        """The charts, as of at most a minute ago.

        Args:
            connection: of the store.

        Raises:
            psycopg.Error: the server can't answer.
        """
        return self._charts.value(lambda: case_charts(connection, self.kind))

    def order(self, connection: Connection, order_id: str) -> OrderStory:
        """What is known of an order.

        Args:
            connection: to the database of the orders.
            order_id: which.

        Raises:
            psycopg.Error: a table is missing, or the server can't answer.
        """
        return order_story(connection, self._tables, order_id)

    def text(self, connection: Connection, case_id: str) -> str:
        """What the customer wrote; empty where it is not there, or of a refund.

        Args:
            connection: of the store.
            case_id: the complaint.

        Raises:
            psycopg.Error: the table is missing, or the server can't answer.
        """
        return complaint_text(connection, self.texts, case_id) if self.kind.has_reply else ""
