"""The JSON API of the Live page: the business at a moment, and the replay's controls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from caspers_lib.console.live_controls import ReplayAction, steer, steering
from caspers_lib.console.live_reading import LiveReader, LiveReading
from caspers_lib.console.source import LiveStatus, ReplayControls, StatusSource
from caspers_lib.console.web.errors import refusals
from caspers_lib.errors import CaspersError, ConsoleError

__all__ = ["live_api_router"]


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """The business at a moment.

    Args:
        status: what the host process tells; None where the console stands alone.
        reading: what Postgres knows.
    """

    status: LiveStatus | None
    reading: LiveReading


class WantedSteering(BaseModel):
    """What the replay is to do.

    Args:
        speed: with speed, virtual seconds per wall-clock second.
        target: with seek, a dataset day such as `75.5`, `+6h`, `-30m`, or a time in ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    target: Annotated[str, Field(max_length=100)] = ""


class Steered(BaseModel):
    """What was done.

    Args:
        message: as a sentence.
    """

    message: str


def live_api_router(
    reader: LiveReader,
    *,
    status: StatusSource | None,
    controls: ReplayControls | None,
    may_steer: Callable[[Request], bool],
) -> APIRouter:
    """The routes `/api/live` and `/api/replay/{action}`.

    Args:
        reader: reads Postgres.
        status: tells the host's status; None where the console stands alone.
        controls: the replay's controls; None where there is none.
        may_steer: whether who asks may use them.
    """
    router = APIRouter(prefix="/api", responses=refusals(401))

    @router.get("/live", name="live")
    def live() -> LiveAnswer:
        """The business at a moment; a part that can't be read says why."""
        host = status() if status else None
        return LiveAnswer(host, reader.read(host.virtual_time if host else None))

    refused = refusals(400, 403, 404, 413, 415, 422, 429)

    @router.post("/replay/{action}", name="replay", responses=refused)
    def replay(request: Request, action: ReplayAction, asked: WantedSteering) -> Steered:
        """Pause the replay, let it go on, set its speed, or play from another moment."""
        if controls is None:
            raise HTTPException(404, "This console has no replay to steer.")
        if not may_steer(request):
            raise HTTPException(403, "Only a manager may steer the replay.")
        values = {"speed": "" if asked.speed is None else f"{asked.speed:g}", "seek": asked.target}
        try:
            done = steer(controls, steering(action, values.get(action, "")))
        except CaspersError as error:
            raise ConsoleError(error.message, hint=error.hint) from error
        reader.forget()
        return Steered(message=done)

    return router
