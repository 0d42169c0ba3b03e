"""The workspace's own files: what a bundle uploads, and what an app is deployed from."""

import base64
import binascii
from collections.abc import Iterator

from tests.workspace_fake.requests import (
    Document,
    Refused,
    Request,
    Route,
    invalid,
    not_found,
    taken,
)
from tests.workspace_fake.shapes import check_arguments
from tests.workspace_fake.state import Common

__all__ = ["WorkspaceFiles"]

_API = "/api/2.0/workspace"
_LARGEST_BYTES = 10 * 1024 * 1024


class WorkspaceFiles:
    """The service; notebooks are files here.

    Args:
        common: of the workspace.
    """

    def __init__(self, common: Common) -> None:
        self.common = common
        self.files: dict[str, bytes] = {}
        self.folders = {"/", "/Shared", "/Users"}
        self._changed: dict[str, int] = {}

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "POST", f"{_API}/import", self.upload
        yield "GET", f"{_API}/export", self.download
        yield "GET", f"{_API}/get-status", self.status
        yield "GET", f"{_API}/list", self.listed
        yield "POST", f"{_API}/mkdirs", self.make_folders
        yield "POST", f"{_API}/delete", self.delete

    def add(self, path: str, content: bytes) -> None:
        """A file, and the folders that it is in.

        Args:
            path: where.
            content: what it holds.
        """
        path = _plain(path)
        self._make(path.rpartition("/")[0])
        self.files[path] = content
        self._changed[path] = self.common.moment_ms()

    def upload(self, request: Request) -> Document:
        """A file in a folder that is there."""
        request.only(bodiless=False)
        check_arguments(request.body, "workspace.WorkspaceAPI", "import_")
        path = _plain(request.body["path"])
        try:
            content = base64.b64decode(request.body.get("content", ""), validate=True)
        except binascii.Error as error:
            raise invalid(f"content is not Base64: {error}") from error
        if len(content) > _LARGEST_BYTES:
            raise Refused(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", "content exceeds 10 MB")
        if path.rpartition("/")[0] not in self.folders:
            raise not_found(f"Path ({path.rpartition('/')[0]})")
        if path in self.folders or (path in self.files and not request.body.get("overwrite")):
            raise taken(f"Path ({path})")
        self.add(path, content)
        return {}

    def download(self, request: Request) -> Document:
        """A file's content."""
        request.only("format", needs=("path",))
        path = _plain(request.query["path"])
        if path not in self.files:
            raise not_found(f"Path ({path})")
        return {"content": base64.b64encode(self.files[path]).decode()}

    def status(self, request: Request) -> Document:
        """What is at a path."""
        request.only(needs=("path",))
        path = _plain(request.query["path"])
        if path not in self.files and path not in self.folders:
            raise not_found(f"Path ({path})")
        return self._said(path)

    def listed(self, request: Request) -> Document:
        """What is directly in a folder."""
        request.only("notebooks_modified_after", needs=("path",))
        folder = _plain(request.query["path"])
        if folder not in self.folders:
            raise not_found(f"Path ({folder})")
        inside = sorted(p for p in {*self.files, *self.folders} if p.rpartition("/")[0] == folder)
        return {"objects": [self._said(path) for path in inside]} if inside else {}

    def make_folders(self, request: Request) -> Document:
        """A folder, and those it is in; one that exists is kept."""
        request.only(bodiless=False)
        check_arguments(request.body, "workspace.WorkspaceAPI", "mkdirs")
        path = _plain(request.body["path"])
        if path in self.files:
            raise taken(f"Path ({path})")
        self._make(path)
        return {}

    def delete(self, request: Request) -> Document:
        """A file or an empty folder that goes; a full one if that is asked for."""
        request.only(bodiless=False)
        check_arguments(request.body, "workspace.WorkspaceAPI", "delete")
        path = _plain(request.body["path"])
        if path not in self.files and path not in self.folders:
            raise not_found(f"Path ({path})")
        inside = [p for p in {*self.files, *self.folders} if p.startswith(f"{path}/")]
        if inside and not request.body.get("recursive"):
            raise Refused(400, "DIRECTORY_NOT_EMPTY", f"Folder ({path}) is not empty")
        for each in (path, *inside):
            self.files.pop(each, None)
            self.folders.discard(each)
        return {}

    def snapshot(self) -> Document:
        """The files' paths."""
        return {"workspace_files": sorted(self.files)}

    def _make(self, path: str) -> None:
        parts = path.split("/")
        self.folders.update("/".join(parts[:end]) for end in range(2, len(parts) + 1))

    def _said(self, path: str) -> Document:
        if path in self.folders:
            return {"path": path, "object_type": "DIRECTORY"}
        changed = self._changed[path]
        return {
            "path": path,
            "object_type": "FILE",
            "created_at": changed,
            "modified_at": changed,
            "size": len(self.files[path]),
        }


def _plain(path: str) -> str:
    """A path without the mount's name and an end slash."""
    if not path.startswith("/"):
        raise invalid(f"Path ({path}) doesn't start with '/'")
    return path.removeprefix("/Workspace").rstrip("/") or "/"
