"""The newest refunds and complaints as lists: pages to read, until there is more to do on them."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from caspers_lib.console import queries
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.pages import render
from caspers_lib.console.panels import snapshot
from caspers_lib.lakebase import SyncSpec

__all__ = ["PAGE_ROWS", "lists_router"]

PAGE_ROWS = 25


def lists_router(
    refunds: ConsoleDatabase, complaints: ConsoleDatabase, tables: Sequence[SyncSpec]
) -> APIRouter:
    """The routes `/refunds` and `/complaints`, each with the part of it that refreshes itself.

    Args:
        refunds: the database of refunds.
        complaints: the database of complaints.
        tables: the synced tables of both.
    """
    router = APIRouter()
    specs = {spec.name: spec for spec in tables}

    def show_refunds(request: Request, template: str) -> HTMLResponse:
        spec = specs["refunds"]
        with snapshot(refunds) as found:
            totals = found.panel((spec,), lambda c: queries.refund_totals(c, spec))
            rows = found.panel((spec,), lambda c: queries.newest_refunds(c, spec, PAGE_ROWS))
        return render(request, template, totals=totals, rows=rows)

    def show_complaints(request: Request, template: str) -> HTMLResponse:
        spec = specs["complaints"]
        with snapshot(complaints) as found:
            totals = found.panel((spec,), lambda c: queries.complaint_totals(c, spec))
            rows = found.panel((spec,), lambda c: queries.newest_complaints(c, spec, PAGE_ROWS))
        return render(request, template, totals=totals, rows=rows)

    @router.get("/refunds", response_class=HTMLResponse)
    def refunds_page(request: Request) -> HTMLResponse:
        return show_refunds(request, "refunds.html")

    @router.get("/refunds/newest", response_class=HTMLResponse)
    def refunds_part(request: Request) -> HTMLResponse:
        return show_refunds(request, "refunds_body.html")

    @router.get("/complaints", response_class=HTMLResponse)
    def complaints_page(request: Request) -> HTMLResponse:
        return show_complaints(request, "complaints.html")

    @router.get("/complaints/newest", response_class=HTMLResponse)
    def complaints_part(request: Request) -> HTMLResponse:
        return show_complaints(request, "complaints_body.html")

    return router
