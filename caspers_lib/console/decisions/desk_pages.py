"""The workspaces Refunds and Complaints: the list, one case, and the form that decides.

They show and do what the JSON API does; what a button would do is written into it as that API's
JSON, so that a page says exactly what the person saw.
"""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field, ValidationError
from starlette.exceptions import HTTPException

from caspers_lib.console.access import ConsoleAccess
from caspers_lib.console.decisions.api import MOST_AT_ONCE, CaseId, WantedDecision
from caspers_lib.console.decisions.cases import (
    Case,
    CaseFilter,
    case_cities,
    one_case,
)
from caspers_lib.console.decisions.desk import Desk
from caspers_lib.console.decisions.values import CaseKind, Decided, Refusal
from caspers_lib.console.formats import element_id, money
from caspers_lib.console.pages import render
from caspers_lib.console.panels import Panel, snapshot
from caspers_lib.console.web.identity import person_of

__all__ = ["desk_router"]

# What is shown, ticked and may be undone, each once a row, and a few more.
_MOST_FIELDS = 3 * MOST_AT_ONCE + 20
_NO_MONEY = Decimal("0.00")


class _OpenPage(CaseFilter):
    """A list that a browser shows.

    Args:
        shown: its cases. They stay in their places, whoever decides and whatever arrives: the
            pointer that has decided one of them never finds itself over another.
    """

    shown: Annotated[tuple[CaseId, ...], Field(max_length=MOST_AT_ONCE)] = ()

    @property
    def cases(self) -> CaseFilter:
        """What the cases are found by."""
        return CaseFilter(**self.model_dump(exclude={"shown"}, exclude_unset=True))


class _DeskPages:
    """The pages of one kind.

    Args:
        desk: what they show.
        access: who is what.
        new_key: makes a key for each decision that a page offers.
    """

    def __init__(self, desk: Desk, access: ConsoleAccess, new_key: Callable[[], str]) -> None:
        self._desk, self._access, self._offer = desk, access, _offer(new_key)
        self._kind, self._store = desk.kind, desk.store

    def list(
        self, request: Request, template: str, page: _OpenPage, *, problem: str = ""
    ) -> HTMLResponse:
        """The list, or the part of it that changes; where a decision was refused, with why."""
        desk, kind, wanted = self._desk, self._kind, page.cases
        if kind.has_reply and "sort" not in wanted.model_fields_set:
            wanted = wanted.model_copy(update={"sort": "priority"})
        person = person_of(request, self._access)
        taken_in = desk.refreshed()
        with snapshot(self._store.database) as moment:
            listed = moment.panel((kind.spec,), lambda c: desk.page(c, wanted, page.shown))
            if listed.value is None and taken_in.problem:
                listed = Panel(problem=taken_in.problem)
            figures = moment.panel((kind.spec,), desk.figures) if listed.value else Panel()
            cities = moment.panel((kind.spec,), lambda c: case_cities(c, kind))
            undoable = moment.panel((kind.spec,), lambda c: desk.undoable(c, person.name))
        query = wanted.model_dump(mode="json", exclude_defaults=True, exclude={"after"})
        here = query | ({"after": wanted.after} if wanted.after else {})
        end = listed.value.next if listed.value else None
        return render(
            request, template, code=409 if problem else 200, kind=kind, page=listed,
            stale=problem or taken_in.problem, figures=figures, wanted=wanted,
            cities=cities.value or (), query=urlencode(query), here_query=urlencode(here),
            undoable=undoable.value or (), offer=self._offer,
            next=None if end is None else urlencode({**query, "after": end}),
        )  # fmt: skip

    def case(
        self,
        request: Request,
        case_id: str,
        *,
        problem: str = "",
        typed: Mapping[str, Sequence[str]] | None = None,
    ) -> HTMLResponse:
        """One case; where a decision was refused, with the reason and what was typed."""
        desk, kind, store = self._desk, self._kind, self._store
        person = person_of(request, self._access)
        case_id = case_id.replace("\0", "")
        with store.reading() as connection:
            case = one_case(connection, kind, case_id)
            undoable = desk.undoable(connection, person.name)
        if case is None:
            raise HTTPException(404, f"There is no such {kind.noun}.")
        order_id = case.order_id or ""
        store.ledger.refresh(order_id)
        with snapshot(desk.orders) as moment:
            story = moment.panel(desk.order_tables, lambda c: desk.order(c, order_id))
        with snapshot(store.database) as moment:
            text = moment.panel((desk.texts,), lambda c: desk.text(c, case_id))
        return render(
            request, "case.html", code=409 if problem else 200, kind=kind, case=case, story=story,
            text=text, trail=store.trail(case_id), undoable=undoable, offer=self._offer,
            problem=problem, typed={name: values[-1] for name, values in (typed or {}).items()},
        )  # fmt: skip

    def decide(self, request: Request, body: bytes) -> Response:
        """Make what a form asks for, and show where it was asked what became of it."""
        kind = self._kind
        person = person_of(request, self._access)
        fields = _fields(body)
        has_script = "hx-request" in request.headers
        decisions: Sequence[WantedDecision] = ()
        try:
            decisions = _decisions(fields)
            if not _is_confirmed(fields) and decisions and not has_script:
                return _confirmation(request, kind, fields)
            ended = self._store.decide_each([each.request() for each in decisions], person)
            message, is_done = _outcome(kind, ended)
        except ValidationError as error:
            message, is_done = _first(error), False
        except Refusal as error:
            message, is_done = _whole(error), False
        if has_script:
            toast = {"toast": {"text": message, "ok": is_done}, "refresh": None}
            return Response(status_code=204, headers={"HX-Trigger": json.dumps(toast)})
        back = _local(fields.get("back", [""])[-1], f"/{kind.name}")
        if is_done:
            place = request.scope.get("root_path", "") + _place(kind, back, fields, decisions)
            return RedirectResponse(place, status_code=303)
        query = {name: values[-1] for name, values in parse_qs(urlsplit(back).query).items()}
        if "case_id" in query:
            return self.case(request, query["case_id"], problem=message, typed=fields)
        try:
            page = _OpenPage.model_validate(query | {"shown": fields.get("shown", ())})
        except ValidationError as error:
            raise HTTPException(409, message) from error
        return self.list(request, "desk.html", page, problem=message)


def desk_router(
    desk: Desk, access: ConsoleAccess, *, new_key: Callable[[], str] = lambda: uuid.uuid4().hex
) -> APIRouter:
    """The routes of one kind: `/refunds`, `/refunds/list`, `/refunds/case`, `/refunds/decide`.

    Args:
        desk: what they show.
        access: who is what.
        new_key: makes a key for each decision that a page offers.
    """
    pages = _DeskPages(desk, access, new_key)
    router = APIRouter(prefix=f"/{desk.kind.name}")

    @router.get("", response_class=HTMLResponse)
    def whole(request: Request, page: Annotated[_OpenPage, Query()]) -> HTMLResponse:
        return pages.list(request, "desk.html", page)

    @router.get("/list", response_class=HTMLResponse)
    def part(request: Request, page: Annotated[_OpenPage, Query()]) -> HTMLResponse:
        return pages.list(request, "desk_list.html", page)

    @router.get("/charts", response_class=HTMLResponse)
    def charts(request: Request) -> HTMLResponse:
        desk.refreshed()
        with snapshot(desk.store.database) as moment:
            panel = moment.panel((desk.kind.spec,), desk.charts)
        return render(request, "desk_charts.html", charts=panel)

    @router.get("/case", response_class=HTMLResponse)
    def case(request: Request, case_id: Annotated[str, Query(max_length=10_000)]) -> HTMLResponse:
        return pages.case(request, case_id)

    @router.post("/decide")
    async def decide(request: Request) -> Response:
        return await run_in_threadpool(pages.decide, request, await request.body())

    return router


def _offer(new_key: Callable[[], str]) -> Callable[..., str]:
    """Writes the decision that a button or a check box stands for."""

    def offer(case: Case, action: str) -> str:
        amount = case.suggested_usd if case.status != "waiting" else case.amount_usd
        document: dict[str, object] = {
            "case_id": case.case_id,
            "version": case.version,
            "action": action,
            "key": new_key(),
        }
        if action == "approve":
            document["amount_usd"] = None if amount is None else f"{amount:.2f}"
            document["reply"] = case.suggested_reply
        return json.dumps(document)

    return offer


def _fields(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise HTTPException(422, "The form can't be read.") from error


def _decisions(fields: Mapping[str, Sequence[str]]) -> list[WantedDecision]:
    """A button's own decision, with what was typed beside it; or one for each box."""
    if offers := fields.get("offer"):
        return [_with_what_was_typed(_object(offers[-1]), fields)]
    action = fields.get("each", [""])[-1]
    documents = [_object(text) for text in fields.get("undo" if action == "undo" else "pick", [])]
    if action != "approve":
        documents = [each | {"amount_usd": None, "reply": None} for each in documents]
    return [WantedDecision.model_validate(each | {"action": action}) for each in documents]


def _with_what_was_typed(
    document: dict[str, object], fields: Mapping[str, Sequence[str]]
) -> WantedDecision:
    """What a button offers with the fields beside it; another amount makes an approval a change."""
    offered = WantedDecision.model_validate(document)
    takes_amount = offered.action in ("approve", "change")
    names = ("reason", "reply", *(["amount_usd"] if takes_amount else []))
    typed = {name: fields[name][-1] for name in names if name in fields}
    if typed.get("amount_usd", "any").strip() == "":
        raise Refusal("wrong_request", "Type the amount to give.")
    decision = WantedDecision.model_validate(document | typed)
    if offered.action == "approve" and decision.amount_usd != offered.amount_usd:
        return decision.model_copy(update={"action": "change"})
    return decision


def _is_confirmed(fields: Mapping[str, Sequence[str]]) -> bool:
    """Whether the page showed how many it ticked and how much that is, and meant the same.

    Raises:
        Refusal: it showed something else than it sent.
    """
    if "offer" in fields or fields.get("each") == ["undo"]:
        return True
    count, usd = _sums(fields)
    shown = [fields.get(name, [""])[-1] for name in ("count", "usd")]
    if "" in shown:
        return False
    if shown != [str(count), f"{usd:.2f}"]:
        raise Refusal(
            "stale",
            f"The page showed {shown[0]} for {shown[1]} USD, but {count} for {usd} USD were sent.",
            hint="Nothing was decided; tick them again.",
        )
    return True


def _sums(fields: Mapping[str, Sequence[str]]) -> tuple[int, Decimal]:
    """How many cases are ticked, and what the agent suggests for them together."""
    ticked = [WantedDecision.model_validate(_object(text)) for text in fields.get("pick", [])]
    return len(ticked), sum((each.amount_usd or _NO_MONEY for each in ticked), _NO_MONEY)


def _confirmation(
    request: Request, kind: CaseKind, fields: Mapping[str, Sequence[str]]
) -> HTMLResponse:
    """The same request once more, with how many and how much; for a browser without scripts."""
    count, usd = _sums(fields)
    return render(
        request, "confirm.html", kind=kind, action=fields["each"][-1], count=count, usd=usd,
        back=fields.get("back", [""])[-1], picks=fields["pick"], shown=fields.get("shown", []),
        ticked=[WantedDecision.model_validate(_object(text)) for text in fields["pick"]],
    )  # fmt: skip


def _place(
    kind: CaseKind,
    back: str,
    fields: Mapping[str, Sequence[str]],
    decisions: Sequence[WantedDecision],
) -> str:
    """Where a browser without scripts goes on: the same list, its cases in their places."""
    shown = urlencode([("shown", case_id) for case_id in fields.get("shown", [])])
    if not shown:
        return back
    row = f"#{element_id(decisions[0].case_id, kind.noun)}" if len(decisions) == 1 else ""
    return f"{back}{'&' if '?' in back else '?'}{shown}{row}"


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


def _whole(refusal: Refusal) -> str:
    return " ".join(filter(None, (refusal.message, refusal.hint)))


def _outcome(kind: CaseKind, ended: Sequence[Decided | Refusal]) -> tuple[str, bool]:
    """What was done, in a sentence, and whether all of it was."""
    if not ended:
        return "Nothing is selected.", False
    made = [each for each in ended if isinstance(each, Decided)]
    refused = [each for each in ended if isinstance(each, Refusal)]
    usd = sum((each.amount_usd for each in made), _NO_MONEY)
    if len(ended) == 1 and made:
        given = f" with {money(usd)}" if usd else ""
        return f"{made[0].case_id[:60]}: {_done(kind, made[0])}{given}.", True
    sentences = []
    if made:
        counts = Counter(_done(kind, each) for each in made)
        given = f": {money(usd)}" if usd else ""
        sentences.append(", ".join(f"{n} {words}" for words, n in counts.items()) + f"{given}.")
    if refused:
        sentences.append(f"{len(refused)} refused:" if len(ended) > 1 else "")
        sentences.append(_whole(refused[0]))
    return " ".join(filter(None, sentences)), not refused


def _done(kind: CaseKind, made: Decided) -> str:
    if made.action == "undo":
        return "undone"
    return "sent back to pending" if made.status == "pending" else kind.spoken(made.status)


def _local(address: str, otherwise: str) -> str:
    """An address of this console; nobody is sent elsewhere."""
    return address if address.startswith(f"{otherwise}") and "\\" not in address else otherwise
