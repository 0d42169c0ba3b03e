"""`/healthz` and `/readyz`: whether the process lives, and whether it can show anything."""

import logging
from collections.abc import Sequence
from typing import Literal

import psycopg
from fastapi import APIRouter, Response
from pydantic import BaseModel

from caspers_lib.console.databases import AbsentDatabaseError, ConsoleDatabase, NotStartedError
from caspers_lib.console.panels import missing_tables
from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.connection import MissingDatabaseError

__all__ = ["Readiness", "health_router"]

logger = logging.getLogger(__name__)


class Readiness(BaseModel):
    """Whether the console can show anything.

    Args:
        status: `ready` or `not ready`.
        databases: what each says for itself, by its name.
        missing_tables: the synced tables that are not there yet.
    """

    status: Literal["ready", "not ready"]
    databases: dict[str, str]
    missing_tables: list[str]


def health_router(databases: Sequence[ConsoleDatabase], tables: Sequence[SyncSpec]) -> APIRouter:
    """The routes for whoever watches the process.

    `/readyz` answers 200 once all databases answer that this deployment has, else 503; it names
    the tables that are not there yet, which does not keep the console from being ready.

    Args:
        databases: the databases that the console reads.
        tables: the synced tables of all of them.
    """
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:  # no thread that a database could keep busy
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"model": Readiness}})
    def readyz(response: Response) -> Readiness:
        found = {d.name: _look(d, [s for s in tables if s.database == d.name]) for d in databases}
        ready = all(said in {"ok", "none"} for said, _ in found.values())
        response.status_code = 200 if ready else 503
        return Readiness(
            status="ready" if ready else "not ready",
            databases={name: said for name, (said, _) in found.items()},
            missing_tables=[table for _, missing in found.values() for table in missing],
        )

    return router


def _look(database: ConsoleDatabase, tables: Sequence[SyncSpec]) -> tuple[str, list[str]]:
    """What a database says for itself, and which of its tables are missing."""
    try:
        with database.reading() as connection:
            missing = missing_tables(connection, tables)
    except AbsentDatabaseError:
        return "none", []
    except NotStartedError:
        return "not started", []
    except MissingDatabaseError:
        return "not there", []
    except (PostgresError, psycopg.Error) as error:
        # The driver's words may name hosts and users.
        logger.info("database %s: %s", database.name, error)
        return "does not answer", []
    return "ok", [f"{spec.schema}.{spec.table}" for spec in missing]
