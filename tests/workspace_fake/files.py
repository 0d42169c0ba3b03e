"""Files and directories within volumes."""

from collections.abc import Iterator

from tests.workspace_fake.requests import (
    Document,
    Refused,
    Reply,
    Request,
    Route,
    invalid,
    not_found,
    paged,
    taken,
)
from tests.workspace_fake.state import NOW_MS
from tests.workspace_fake.unity import Unity

__all__ = ["Files"]

_FILES = "/api/2.0/fs/files(/.+)"
_DIRECTORIES = "/api/2.0/fs/directories(/.+)"
_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


class Files:
    """The service.

    Args:
        unity: has the volumes, and keeps the files.
    """

    def __init__(self, unity: Unity) -> None:
        self.unity = unity

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "PUT", _FILES, self.upload
        yield "GET", _FILES, self.download
        yield "HEAD", _FILES, self.metadata
        yield "DELETE", _FILES, self.delete
        yield "PUT", _DIRECTORIES, self.create_directory
        yield "HEAD", _DIRECTORIES, self.directory_metadata
        yield "GET", _DIRECTORIES, self.listed
        yield "DELETE", _DIRECTORIES, self.delete_directory

    def upload(self, request: Request, path: str) -> Reply:
        """A new file; the directories it is in are made."""
        request.only("overwrite", bodiless=False)
        path = self._in_volume(path, 1)
        if self._is_directory(path):
            raise taken(f"The directory {path}", "ALREADY_EXISTS")
        if path in self.unity.files and not request.flag("overwrite"):
            raise taken(f"The file {path}", "ALREADY_EXISTS")
        self._make_directories(path.rpartition("/")[0])
        self.unity.files[path] = request.content
        return Reply(status=204)

    def download(self, request: Request, path: str) -> Reply:
        """A file's content."""
        request.only()
        content = self._file(path)
        return Reply(content, self._headers(content))

    def metadata(self, request: Request, path: str) -> Reply:
        """A file's size."""
        request.only()
        return Reply(b"", self._headers(self._file(path)))

    def delete(self, request: Request, path: str) -> Reply:
        """A file that goes."""
        request.only()
        self._file(path)
        del self.unity.files[self._in_volume(path, 1)]
        return Reply(status=204)

    def create_directory(self, request: Request, path: str) -> Reply:
        """A directory, and those it is in; one that exists is kept."""
        request.only()
        path = self._in_volume(path, 0)
        if path in self.unity.files:
            raise taken(f"The file {path}", "ALREADY_EXISTS")
        self._make_directories(path)
        return Reply(status=204)

    def directory_metadata(self, request: Request, path: str) -> Reply:
        """Whether a directory exists."""
        request.only()
        self._directory(path)
        return Reply()

    def listed(self, request: Request, path: str) -> Document:
        """What is directly in a directory."""
        request.only("page_size", "page_token")
        path = self._directory(path)
        entries = [self._entry(child) for child in self._children(path)]
        return paged(request, "contents", entries)

    def delete_directory(self, request: Request, path: str) -> Reply:
        """A directory that goes, if it is empty."""
        request.only()
        path = self._directory(path)
        if path not in self.unity.directories:
            raise invalid(f"{path} is a volume")
        if self._children(path):
            raise Refused(400, "DIRECTORY_NOT_EMPTY", f"{path} is not empty")
        self.unity.directories.discard(path)
        return Reply(status=204)

    def _in_volume(self, path: str, least: int) -> str:
        """A path without an end slash, whose volume exists and which has so many names in it."""
        parts = path.strip("/").split("/")
        if parts[0] != "Volumes" or len(parts) < 4 + least or not {"", ".", ".."}.isdisjoint(parts):
            raise invalid(f"{path} is not a path in a volume: /Volumes/catalog/schema/volume/...")
        self.unity.need("catalogs", parts[1])
        self.unity.need("schemas", ".".join(parts[1:3]))
        self.unity.need("volumes", ".".join(parts[1:4]))
        return "/" + "/".join(parts)

    def _make_directories(self, path: str) -> None:
        parts = path.split("/")
        made = ["/".join(parts[:end]) for end in range(6, len(parts) + 1)]
        if found := [each for each in made if each in self.unity.files]:
            raise invalid(f"{found[0]} is a file")
        self.unity.directories.update(made)

    def _is_directory(self, path: str) -> bool:
        return path.count("/") == 4 or path in self.unity.directories

    def _directory(self, path: str) -> str:
        path = self._in_volume(path, 0)
        if not self._is_directory(path):
            raise not_found(f"The directory {path}", "NOT_FOUND")
        return path

    def _file(self, path: str) -> bytes:
        path = self._in_volume(path, 1)
        if path not in self.unity.files:
            raise not_found(f"The file {path}", "NOT_FOUND")
        return self.unity.files[path]

    def _headers(self, content: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(content)),
            "Last-Modified": _MODIFIED,
        }

    def _children(self, path: str) -> list[str]:
        every = {*self.unity.files, *self.unity.directories}
        return sorted(child for child in every if child.rpartition("/")[0] == path)

    def _entry(self, path: str) -> Document:
        entry: Document = {"path": path, "name": path.rpartition("/")[2], "is_directory": True}
        if path in self.unity.files:
            size = len(self.unity.files[path])
            entry |= {"is_directory": False, "file_size": size, "last_modified": NOW_MS}
        return entry
