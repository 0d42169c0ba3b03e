"""What an app needs beside its own code: this library as a wheel, and the list that names it.

The wheel is made of the code that runs, so that an app never serves another version than the one
that deployed it, nor one that an index has under the same name. The same code gives the same bytes.
"""

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path

import caspers_lib

__all__ = ["app_files", "library_wheel"]

_EXTRAS = "console,databricks"
_LONG_AGO = (2020, 1, 1, 0, 0, 0)
_TAGS = "Wheel-Version: 1.0\nGenerator: caspers_lib\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def app_files() -> dict[str, bytes]:
    """Names and contents of the files that belong beside an app's code."""
    name, wheel = library_wheel()
    return {name: wheel, "requirements.txt": f"./{name}[{_EXTRAS}]\n".encode()}


def library_wheel() -> tuple[str, bytes]:
    """The installed library as a wheel: its file name and its bytes."""
    package = Path(caspers_lib.__file__).parent
    about = metadata.distribution("caspers_lib")
    folder = f"caspers_lib-{about.version}.dist-info"
    files = {
        f"caspers_lib/{file.relative_to(package).as_posix()}": file.read_bytes()
        for file in sorted(package.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    files[f"{folder}/METADATA"] = (about.read_text("METADATA") or "").encode()
    files[f"{folder}/WHEEL"] = _TAGS.encode()
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{folder}/RECORD"] = "\n".join([*record, f"{folder}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name, _LONG_AGO), content, zipfile.ZIP_DEFLATED)
    return f"caspers_lib-{about.version}-py3-none-any.whl", packed.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
