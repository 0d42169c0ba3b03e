"""How every page of the console is made: one set of templates, which escape every text."""

from functools import cache
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from caspers_lib.console import formats

__all__ = ["PACKAGE", "WORKSPACES", "path_below_root", "render"]

PACKAGE = Path(__file__).parent
WORKSPACES = (("/", "Live"), ("/refunds", "Refunds"), ("/complaints", "Complaints"))
"""The workspaces of the navigation: where they are and what they are called."""


def render(request: Request, template: str, *, code: int = 200, **values: object) -> HTMLResponse:
    """A page or a part of one.

    Args:
        request: what is answered; the navigation marks the workspace that its path lies in, and
            the header shows the person who asks, once that is known.
        template: the template's name.
        code: the HTTP status.
        values: what the template shows, as data: each text is escaped.
    """
    page = _templates().get_template(template)
    here = _workspace(path_below_root(request))
    person, root = getattr(request.state, "person", None), request.scope.get("root_path", "")
    html = page.render(workspaces=WORKSPACES, here=here, person=person, root=root, **values)
    return HTMLResponse(html, status_code=code)


def path_below_root(request: Request) -> str:
    """The request's path without the prefix under which a proxy publishes the console."""
    return request.url.path.removeprefix(request.scope.get("root_path", ""))


def _workspace(path: str) -> str:
    """The address of the workspace that a path lies in."""
    inside = [home for home, _ in WORKSPACES[1:] if path == home or path.startswith(f"{home}/")]
    return inside[0] if inside else WORKSPACES[0][0]


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(PACKAGE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in formats.__all__:
        templates.filters[name] = getattr(formats, name)
    return templates
