"""Who asks: as the platform's proxy tells it, never as a form says."""

from fastapi import HTTPException, Request

from caspers_lib.console.access import ConsoleAccess, Person

__all__ = ["person_of"]

# What a Databricks App's proxy sets, whatever the browser sent under these names.
_HEADERS = ("x-forwarded-email", "x-forwarded-preferred-username")


def person_of(request: Request, access: ConsoleAccess) -> Person:
    """The person who asks.

    Args:
        request: with the headers of the proxy, where there is one.
        access: says whether there is one, and who is what.

    Raises:
        HTTPException: 401, a proxy is expected and does not tell who asks.
    """
    if not access.proxy:
        return access.at_this_machine
    for header in _HEADERS:
        if name := request.headers.get(header, "").strip():
            return access.person(name)
    raise HTTPException(
        401, "The platform does not say who you are. Open the console through its own address."
    )
