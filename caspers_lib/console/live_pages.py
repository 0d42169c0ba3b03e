"""The Live workspace: the page, the part of it that refreshes itself, and the replay's controls."""

import json
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from caspers_lib.console.live_controls import ReplayAction, steer, wanted
from caspers_lib.console.live_drawing import HALF
from caspers_lib.console.live_reading import CityMap, LiveReader, LiveReading
from caspers_lib.console.live_tables import table_lines
from caspers_lib.console.pages import render
from caspers_lib.console.source import LiveStatus, ReplayControls, StatusSource
from caspers_lib.domain.ghost_kitchen import LATE_MINUTES
from caspers_lib.errors import CaspersError

__all__ = ["SPEEDS", "live_router"]

SPEEDS = (1, 10, 60, 300, 1000)
SEEKS = (("-1h", "-1 h"), ("+1h", "+1 h"), ("+6h", "+6 h"), ("+1d", "+1 day"))
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="{0} {0} {1} {1}">'
    '<path d="{2}" fill="none" stroke="#8d86a8" stroke-width="0.7" stroke-linecap="round"/></svg>'
)


def live_router(
    reader: LiveReader,
    *,
    status: StatusSource | None,
    controls: ReplayControls | None,
    may_steer: Callable[[Request], bool],
) -> APIRouter:
    """The Live workspace's routes: `/`, `/live`, `/live/streets/...`, `/live/replay/...`.

    Args:
        reader: reads Postgres.
        status: tells the host's status; None where the console stands alone.
        controls: the replay's controls; None where there is none.
        may_steer: whether who asks may use them.
    """
    router = APIRouter()

    def show(request: Request, template: str, city: str) -> HTMLResponse:
        host = status() if status else None
        reading = reader.read(host.virtual_time if host else None)
        status_now = host or LiveStatus()
        return render(
            request,
            template,
            status=status_now,
            alone=host is None,
            reading=reading,
            chosen=_chosen(reading, city),
            tables=table_lines(status_now.tables, reading.tables),
            steers=controls is not None and may_steer(request),
            speeds=SPEEDS,
            seeks=SEEKS,
            late_minutes=LATE_MINUTES,
        )

    @router.get("/", response_class=HTMLResponse)
    def page(request: Request, city: str = "") -> HTMLResponse:
        return show(request, "live.html", city)

    @router.get("/live", response_class=HTMLResponse)
    def part(request: Request, city: str = "") -> HTMLResponse:
        return show(request, "live_body.html", city)

    @router.get("/live/streets/{location_id}.svg")
    def streets(location_id: int) -> Response:
        svg = _SVG.format(-HALF, 2 * HALF, reader.streets(location_id))
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response(svg, media_type="image/svg+xml", headers=headers)

    @router.post("/live/replay/{action}")
    async def replay(request: Request, action: ReplayAction) -> Response:
        if controls is None:
            raise HTTPException(404, "This console has no replay to steer.")
        if not may_steer(request):
            raise HTTPException(403, "Only a manager may steer the replay.")
        body = await request.body()
        try:
            steering = wanted(action, request.headers.get("content-type", ""), body)
            done = await run_in_threadpool(steer, controls, steering)
        except CaspersError as error:
            return _answer(request, error.message, error.hint, ok=False)
        await run_in_threadpool(reader.forget)
        return _answer(request, done, ok=True)

    return router


def _chosen(reading: LiveReading, city: str) -> CityMap | None:
    """The city that the address names; None for all of them."""
    maps = reading.maps.value or ()
    return next((one for one in maps if str(one.city.location_id) == city), None)


def _answer(request: Request, message: str, hint: str = "", *, ok: bool) -> Response:
    """What was done or refused: a toast for the page, JSON for programs, else the way back."""
    code = 200 if ok else 422
    if "hx-request" in request.headers:
        toast = {"toast": {"text": _sentences(message, hint), "ok": ok}}
        events = toast | ({"refresh": None} if ok else {})
        return Response(status_code=204 if ok else code, headers={"HX-Trigger": json.dumps(events)})
    if "text/html" in request.headers.get("accept", ""):
        if not ok:
            raise HTTPException(code, _sentences(message, hint))
        return RedirectResponse(f"{request.scope.get('root_path', '')}/", status_code=303)
    document = {"message": message} if ok else {"error": message, "hint": hint}
    return JSONResponse(document, status_code=code)


def _sentences(message: str, hint: str) -> str:
    return f"{message.rstrip('.')}. {hint}".rstrip()
