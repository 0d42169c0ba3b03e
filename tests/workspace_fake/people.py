"""Who asks."""

from collections.abc import Iterator

from tests.workspace_fake.requests import Document, Request, Route
from tests.workspace_fake.state import ME

__all__ = ["People"]


class People:
    """The service that knows the current user."""

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", "/api/2.0/preview/scim/v2/Me", self.me

    def me(self, request: Request) -> Document:
        """The current user."""
        request.only("attributes", "excludedAttributes")
        return {
            "id": "1",
            "userName": ME,
            "displayName": "Me",
            "active": True,
            "emails": [{"value": ME, "primary": True, "type": "work"}],
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        }
