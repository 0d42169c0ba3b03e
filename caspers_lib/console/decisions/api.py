"""The JSON API of cases and decisions; the pages do nothing that it can't.

Amounts are texts with two decimals, times are ISO 8601 in UTC. Described at `/api/openapi.json`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from caspers_lib.console.access import ConsoleAccess, Person
from caspers_lib.console.decisions.cases import (
    Case,
    CaseFilter,
    CasePage,
    case_cities,
    one_case,
    stream_cases,
)
from caspers_lib.console.decisions.charts import Charts
from caspers_lib.console.decisions.deciding import DecisionStore
from caspers_lib.console.decisions.desk import CaseStory, Desk
from caspers_lib.console.decisions.export import csv_lines, label_lines, last_decisions
from caspers_lib.console.decisions.figures import CaseFigures
from caspers_lib.console.decisions.trail import LONGEST_REASON, LONGEST_REPLY
from caspers_lib.console.decisions.values import (
    Action,
    CaseKind,
    Decided,
    DecisionRequest,
    Refusal,
    Usd,
)
from caspers_lib.console.web.errors import STATUS_CODES, Refused, error_answer, refusals
from caspers_lib.console.web.events import Changes
from caspers_lib.console.web.identity import person_of

__all__ = ["MOST_AT_ONCE", "CaseId", "WantedDecision", "api_router"]

MOST_AT_ONCE = 200
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
CaseId = Annotated[_Text, Field(min_length=1, max_length=10_000)]


def _whole(value: object) -> object:
    """JSON's 2.0 is the number 2; its true and its "2" are none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class WantedDecision(BaseModel):
    """One decision that a person asks for.

    Args:
        case_id: the order of a refund, or the complaint.
        version: the case's version that the person saw.
        action: what they want.
        amount_usd: with approve, the amount that they saw; with change, the new one.
        reason: why; change, escalate and reverse need one, and whatever ends an urgent complaint.
        reply: what the customer is told, of a complaint.
        key: any text of your own for this request alone; sent again, it is made once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case_id: CaseId
    version: Annotated[int, Field(strict=True, ge=0, le=1_000_000), BeforeValidator(_whole)]
    action: Action
    amount_usd: Usd | None = None
    reason: Annotated[_Text, Field(max_length=LONGEST_REASON)] = ""
    reply: Annotated[_Text, Field(max_length=LONGEST_REPLY)] | None = None
    key: Annotated[_Text, Field(min_length=1, max_length=100)]

    def request(self) -> DecisionRequest:
        """The same, for the store."""
        return DecisionRequest(**self.model_dump())


class WantedDecisions(BaseModel):
    """Decisions that a person asks for at once; each is made for itself.

    Args:
        decisions: at most `MOST_AT_ONCE`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decisions: Annotated[tuple[WantedDecision, ...], Field(min_length=1, max_length=MOST_AT_ONCE)]


class Outcome(BaseModel):
    """What became of one decision that was asked for.

    Args:
        case_id: the case.
        made: the decision on record; None if it was refused.
        refused: why; None if it was made.
    """

    case_id: str
    made: Decided | None = None
    refused: Refused | None = None


class Outcomes(BaseModel):
    """What became of each decision that was asked for, in the order of the request.

    Args:
        outcomes: one for each.
    """

    outcomes: tuple[Outcome, ...]


class CaseHistory(BaseModel):
    """One case, and every decision about it, oldest first.

    Args:
        case: where it is.
        decisions: the audit trail.
    """

    case: Case
    decisions: tuple[Decided, ...]


def api_router(
    desks: Sequence[Desk], access: ConsoleAccess, changes: Mapping[str, Changes]
) -> APIRouter:
    """The routes under `/api`.

    Args:
        desks: the workspace of each kind.
        access: who is what.
        changes: tells listeners of changes, by the kind's name.
    """
    router = APIRouter(prefix="/api", responses=refusals(401))

    @router.get("/me")
    def me(request: Request) -> Person:
        """Who asks, and what they may do."""
        return person_of(request, access)

    for desk in desks:
        _add_changes(router, desk.kind.name, changes[desk.kind.name], access)
        _add_reads(router, desk.store, access)
        _add_views(router, desk, access)
        _add_writes(router, desk.store, access)
    return router


def _add_reads(router: APIRouter, store: DecisionStore, access: ConsoleAccess) -> None:
    kind, home = store.kind, f"/{store.kind.name}"

    @router.get(f"{home}/case", name=f"one of the {kind.name}", responses=refusals(404, 422, 503))
    def one(request: Request, case_id: Annotated[str, Query(max_length=10_000)]) -> CaseHistory:
        """One case with its audit trail."""
        person_of(request, access)
        with store.reading() as connection:
            case = one_case(connection, kind, case_id.replace("\0", ""))
        if case is None:
            raise _no_such(kind)
        return CaseHistory(case=case, decisions=store.trail(case.case_id))

    @router.get(
        f"{home}/decisions", name=f"audit trail of {kind.name}", responses=refusals(422, 503)
    )
    def audit(
        request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> tuple[Decided, ...]:
        """The newest decisions."""
        person_of(request, access)
        return store.latest(limit)

    @router.get(
        f"{home}.csv",
        name=f"{kind.name} as CSV",
        response_class=StreamingResponse,
        responses=_streamed("text/csv") | refusals(422, 503),
    )
    def as_csv(request: Request, wanted: Annotated[CaseFilter, Query()]) -> StreamingResponse:
        """Every case that fits the filter, however many; `after` and `limit` say nothing here."""
        person_of(request, access)

        def lines() -> Iterator[str]:
            with store.reading() as connection:
                yield from csv_lines(stream_cases(connection, kind, wanted))

        return _file(lines, f"{kind.name}.csv", "text/csv; charset=utf-8")

    @router.get(
        f"{home}/labels.jsonl",
        name=f"labels of {kind.name}",
        response_class=StreamingResponse,
        responses=_streamed("application/x-ndjson") | refusals(503),
    )
    def labels(request: Request) -> StreamingResponse:
        """What people decided, as labels for `caspers agent evaluate`."""
        person_of(request, access)

        def lines() -> Iterator[str]:
            with store.reading() as connection:
                yield from label_lines(kind, last_decisions(connection, kind))

        return _file(lines, f"{kind.noun}_labels.jsonl", "application/x-ndjson")


def _add_views(router: APIRouter, desk: Desk, access: ConsoleAccess) -> None:
    kind, home = desk.kind, f"/{desk.kind.name}"

    @router.get(home, name=f"list {kind.name}", responses=refusals(400, 422, 503))
    def listed(request: Request, wanted: Annotated[CaseFilter, Query()]) -> CasePage:
        """A page of the cases that fit a filter."""
        person_of(request, access)
        with desk.store.reading() as connection:
            return desk.page(connection, wanted)

    @router.get(f"{home}/figures", name=f"figures of {kind.name}", responses=refusals(503))
    def figures(request: Request) -> CaseFigures:
        """The sums that the cards show."""
        person_of(request, access)
        with desk.store.reading() as connection:
            return desk.figures(connection)

    @router.get(f"{home}/charts", name=f"charts of {kind.name}", responses=refusals(503))
    def charts(request: Request) -> Charts:
        """What was suggested in the last two weeks of the data, by day, hour and city."""
        person_of(request, access)
        with desk.store.reading() as connection:
            return desk.charts(connection)

    @router.get(f"{home}/cities", name=f"cities of {kind.name}", responses=refusals(503))
    def cities(request: Request) -> tuple[str, ...]:
        """The cities that a filter can name."""
        person_of(request, access)
        with desk.store.reading() as connection:
            return case_cities(connection, kind)

    @router.get(
        f"{home}/story",
        name=f"story of one of the {kind.name}",
        responses=refusals(404, 422, 503),
    )
    def story(request: Request, case_id: Annotated[str, Query(max_length=10_000)]) -> CaseStory:
        """The order's events, lines, route and payouts, and what the customer wrote."""
        person_of(request, access)
        with desk.store.reading() as connection:
            case = one_case(connection, kind, case_id.replace("\0", ""))
            text = desk.text(connection, case.case_id) if case else ""
        if case is None:
            raise _no_such(kind)
        desk.store.ledger.refresh(case.order_id or "")
        with desk.orders.reading() as connection:
            return CaseStory(desk.order(connection, case.order_id or ""), text)


def _no_such(kind: CaseKind) -> Refusal:
    return Refusal("not_found", f"There is no such {kind.noun}.", hint="Load the list again.")


def _add_changes(router: APIRouter, name: str, changes: Changes, access: ConsoleAccess) -> None:
    @router.get(
        f"/{name}/events",
        name=f"changes of {name}",
        response_class=StreamingResponse,
        responses=_streamed("text/event-stream") | refusals(503),
    )
    async def events(request: Request) -> Response:
        """Server-sent events: `changed` with a number, at first and whenever something changed."""
        person_of(request, access)
        if changes.is_full:
            busy = {"code": "too_many", "message": "Too many pages listen.", "hint": "Ask instead."}
            return JSONResponse(busy, status_code=503, headers={"Retry-After": "10"})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(changes.listen(), media_type="text/event-stream", headers=headers)


def _add_writes(router: APIRouter, store: DecisionStore, access: ConsoleAccess) -> None:
    kind = store.kind
    # A request that can't be read is refused as a whole; one that can be has outcomes.
    responses = refusals(400, 413, 415, 429) | {
        code: {"model": Outcomes | Refused} for code in sorted(set(STATUS_CODES.values()))
    }

    @router.post(f"/{kind.name}/decisions", name=f"decide {kind.name}", responses=responses)
    def decide(request: Request, response: Response, wanted: WantedDecisions) -> Outcomes:
        """Make decisions, each for itself; the status is that of one alone, or 200 for many."""
        person = person_of(request, access)
        asked = [each.request() for each in wanted.decisions]
        ended = store.decide_each(asked, person)
        outcomes = [_outcome(a.case_id, e) for a, e in zip(asked, ended, strict=True)]
        [code, *others] = [error_answer(e)[0] if isinstance(e, Refusal) else 200 for e in ended]
        response.status_code = 200 if others else code
        return Outcomes(outcomes=tuple(outcomes))


def _outcome(case_id: str, ended: Decided | Refusal) -> Outcome:
    if isinstance(ended, Decided):
        return Outcome(case_id=case_id, made=ended)
    return Outcome(case_id=case_id, refused=Refused(**error_answer(ended)[1]))


def _streamed(kind: str) -> dict[int | str, dict[str, Any]]:
    """The description of an answer in lines of text."""
    return {200: {"content": {kind: {"schema": {"type": "string"}}}}}


def _file(lines: Callable[[], Iterator[str]], name: str, kind: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    parts = _joined(lines())
    # What can't be read fails before the answer has begun.
    first = next(parts, "")
    return StreamingResponse(chain([first], parts), media_type=kind, headers=headers)


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """Lines by the thousand: each part of an answer is fetched by a thread."""
    while part := "".join(islice(lines, 1_000)):
        yield part
