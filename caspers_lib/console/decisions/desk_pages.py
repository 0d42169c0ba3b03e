"""The workspaces Refunds and Complaints: the list, one case, and the form that decides.

They show and do what the JSON API does; what a button would do is written into it as that API's
JSON, so that a page says exactly what the person saw.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from caspers_lib.console.access import ConsoleAccess
from caspers_lib.console.decisions.api import MOST_AT_ONCE, WantedDecision
from caspers_lib.console.decisions.cases import (
    Case,
    CaseFilter,
    case_cities,
    one_case,
)
from caspers_lib.console.decisions.deciding import Decided
from caspers_lib.console.decisions.desk import Desk
from caspers_lib.console.decisions.values import Refusal
from caspers_lib.console.pages import render
from caspers_lib.console.panels import Panel, snapshot
from caspers_lib.console.web.identity import person_of

__all__ = ["desk_router"]

_MOST_FIELDS = 2 * MOST_AT_ONCE + 20


def desk_router(
    desk: Desk, access: ConsoleAccess, *, new_key: Callable[[], str] = lambda: uuid.uuid4().hex
) -> APIRouter:
    """The routes of one kind: `/refunds`, `/refunds/list`, `/refunds/case`, `/refunds/decide`.

    Args:
        desk: what they show.
        access: who is what.
        new_key: makes a key for each decision that a page offers.
    """
    store, kind = desk.store, desk.kind
    router = APIRouter(prefix=f"/{kind.name}")

    def show(request: Request, template: str, wanted: CaseFilter) -> HTMLResponse:
        if kind.has_reply and "sort" not in wanted.model_fields_set:
            wanted = wanted.model_copy(update={"sort": "priority"})
        taken_in = desk.refreshed()
        with snapshot(store.database) as found:
            page = found.panel((kind.spec,), lambda c: desk.page(c, wanted))
            if page.value is None and taken_in.problem:
                page = Panel(problem=taken_in.problem)
            figures = found.panel((kind.spec,), desk.figures) if page.value else Panel()
            cities = found.panel((kind.spec,), lambda c: case_cities(c, kind))
        asked = wanted.model_dump(mode="json", exclude_defaults=True, exclude={"after"})
        return render(
            request, template, kind=kind, page=page, stale=taken_in.problem, figures=figures,
            wanted=wanted, cities=cities.value or (), query=urlencode(asked), offer=_offer(new_key),
            next=_next(asked, page.value.next if page.value else None),
        )  # fmt: skip

    @router.get("", response_class=HTMLResponse)
    def whole(request: Request, wanted: Annotated[CaseFilter, Query()]) -> HTMLResponse:
        return show(request, "desk.html", wanted)

    @router.get("/list", response_class=HTMLResponse)
    def part(request: Request, wanted: Annotated[CaseFilter, Query()]) -> HTMLResponse:
        return show(request, "desk_list.html", wanted)

    @router.get("/charts", response_class=HTMLResponse)
    def charts(request: Request) -> HTMLResponse:
        desk.refreshed()
        with snapshot(store.database) as found:
            panel = found.panel((kind.spec,), desk.charts)
        return render(request, "desk_charts.html", charts=panel)

    @router.get("/case", response_class=HTMLResponse)
    def case(request: Request, case_id: Annotated[str, Query(max_length=10_000)]) -> HTMLResponse:
        case_id = case_id.replace("\0", "")
        with store.reading() as connection:
            found = one_case(connection, kind, case_id)
        if found is None:
            raise HTTPException(404, f"There is no such {kind.noun}.")
        order_id = found.order_id or ""
        store.ledger.refresh(order_id)
        with snapshot(desk.orders) as moment:
            story = moment.panel(desk.order_tables, lambda c: desk.order(c, order_id))
        with snapshot(store.database) as moment:
            text = moment.panel((desk.texts,), lambda c: desk.text(c, case_id))
        return render(
            request, "case.html", kind=kind, case=found, story=story, text=text,
            trail=store.trail(case_id), offer=_offer(new_key),
        )  # fmt: skip

    @router.post("/decide")
    async def decide(request: Request) -> Response:
        person = person_of(request, access)
        fields = _fields(await request.body())
        try:
            wanted = [each.request() for each in _wanted(fields)]
        except ValidationError as error:
            raise HTTPException(422, _first(error)) from error
        ended = await run_in_threadpool(store.decide_each, wanted, person)
        said, ok = _said(ended)
        back = _local(fields.get("back", [""])[-1], f"/{kind.name}")
        if "hx-request" in request.headers:
            toast = {"toast": {"text": said, "ok": ok}, "refresh": None}
            return Response(status_code=204, headers={"HX-Trigger": json.dumps(toast)})
        if not ok:
            raise HTTPException(409, said)
        return RedirectResponse(request.scope.get("root_path", "") + back, status_code=303)

    return router


def _offer(new_key: Callable[[], str]) -> Callable[..., str]:
    """Writes the decision that a button or a check box stands for."""

    def offer(case: Case, action: str, **more: object) -> str:
        amount = case.suggested_usd if case.status != "waiting" else case.amount_usd
        said: dict[str, object] = {
            "case_id": case.case_id,
            "version": case.version,
            "action": action,
            "key": new_key(),
        }
        if action == "approve":
            said["amount_usd"] = None if amount is None else f"{amount:.2f}"
            said["reply"] = case.suggested_reply
        return json.dumps(said | more)

    return offer


def _next(asked: Mapping[str, object], after: str | None) -> str | None:
    return None if after is None else urlencode({**asked, "after": after})


def _fields(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise HTTPException(422, "The form can't be read.") from error


def _wanted(fields: Mapping[str, Sequence[str]]) -> Iterable[WantedDecision]:
    """A button's own decision, with what was typed beside it; or one for each checked box."""
    if offered := fields.get("offer"):
        document = _object(offered[-1])
        typed = {name: fields[name][-1] for name in ("amount_usd", "reason", "reply")
                 if name in fields}  # fmt: skip
        if document.get("action") not in ("approve", "change"):
            typed.pop("amount_usd", None)
        if document.get("action") == "approve":
            typed.pop("amount_usd", None)
        yield WantedDecision.model_validate(document | typed)
        return
    action = fields.get("each", [""])[-1]
    for picked in fields.get("pick", []):
        document = _object(picked) | {"action": action}
        if action != "approve":
            document |= {"amount_usd": None, "reply": None}
        yield WantedDecision.model_validate(document)


def _object(text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "The form can't be read.") from error
    if not isinstance(document, dict):
        raise HTTPException(422, "The form can't be read.")
    return document


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"[:300]


def _said(ended: Sequence[Decided | Refusal]) -> tuple[str, bool]:
    """What was done, in a sentence, and whether all of it was."""
    refused = [each for each in ended if isinstance(each, Refusal)]
    made = [each for each in ended if isinstance(each, Decided)]
    if not ended:
        return "Nothing is selected.", False
    if len(made) == 1 and not refused:
        given = f" with ${made[0].amount_usd:,.2f}" if made[0].amount_usd else ""
        return f"{made[0].case_id[:60]}: {made[0].status}{given}.", True
    done = f"{len(made)} decided." if made else ""
    why = " ".join(filter(None, (refused[0].message, refused[0].hint))) if refused else ""
    count = f"{len(refused)} refused: " if len(ended) > 1 and refused else ""
    return " ".join(filter(None, (done, count + why))), not refused


def _local(address: str, otherwise: str) -> str:
    """An address of this console; nobody is sent elsewhere."""
    return address if address.startswith(f"{otherwise}") and "\\" not in address else otherwise
