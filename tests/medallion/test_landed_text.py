"""Files of any bytes: each line is one event or is kept whole, as Python's own parser judges."""

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from caspers_lib.medallion.bronze import NOT_UTF_8, bronze_events
from caspers_lib.testing import ITEM, event
from caspers_lib.testing import order_created as created

pytestmark = pytest.mark.spark

BOM = b"\xef\xbb\xbf"
OBJECTS = [
    json.dumps(event("plain")).encode(),
    json.dumps(created("}, {", ITEM, ITEM)).encode(),
    json.dumps(event("é☃", body="]}"), ensure_ascii=False).encode(),
    b'{ "event_id" : "spaced" , "ts" : null }',
    b"{}",
]
# What a cut, a glue, another encoding or another writer leaves between and behind objects.
JUNK = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"\t", b"0", b"null", b"text", b"},", b"}]",
    b"],[", b",1] ", b"// c", b"/**/", b"#", b"\x00", b"\x1a", BOM, b"\xff\xfe", b"\xe9", b"\xc3",
    b"\\", b"NaN", b'"a":', b'{"event_id":"cut', b'[{"event_id":"in a list"}]',
]  # fmt: skip
ENDS = [b"\n", b"\n", b"\r\n", b"\r", b"\n\n"]
GLUED = [
    OBJECTS[0] + OBJECTS[1],
    OBJECTS[0] + b" " + OBJECTS[1],
    OBJECTS[0] + b"," + OBJECTS[1],
    OBJECTS[0] + b"],[" + OBJECTS[1],
    OBJECTS[0] + b",1] " + OBJECTS[1],
    OBJECTS[0] + b" and more",
    b"\r".join(OBJECTS),
    BOM + OBJECTS[0] + b"\n" + BOM + OBJECTS[1] + b"\n",
    b"[" + OBJECTS[0] + b"]",
]


def no_constant(name: str) -> float:
    raise ValueError(name)


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, parse_constant=no_constant), dict)
    except ValueError:
        return False


def judged(content: bytes) -> Counter[tuple[str, str | None]]:
    """What a file's lines are: an event with its id, or a text."""
    rows: Counter[tuple[str, str | None]] = Counter()
    # Hadoop's reader leaves out the mark with which a file begins.
    for line in re.split(rb"\r\n|\n|\r", content.removeprefix(BOM)):
        try:
            text = line.decode().strip(" \t\r\ufeff")
        except UnicodeDecodeError:
            rows["text", NOT_UTF_8 + line.decode("latin-1")] += 1
            continue
        if is_object(text):
            rows["event", json.loads(text).get("event_id")] += 1
        elif text:
            rows["text", text] += 1
    return rows


def landed(spark: Any, folder: Path, files: list[bytes]) -> list[Counter[tuple[str, str | None]]]:
    """What bronze makes of each file, all of them read by one job."""
    folder.mkdir()
    for number, content in enumerate(files):
        (folder / f"{number}.json").write_bytes(content)
    bronze = bronze_events(spark, str(folder), stream=False)
    found: list[Counter[tuple[str, str | None]]] = [Counter() for _ in files]
    rows = bronze.select("source_file", "event_id", "_rescued_data").collect()
    for path, event_id, rescued in rows:
        number = int(re.findall(r"/(\d+)\.json$", path)[0])
        # Fields that the schema lacks are rescued as an object.
        if rescued is None or is_object(rescued):
            found[number]["event", event_id] += 1
        else:
            found[number]["text", rescued] += 1
    return found


@settings(max_examples=3, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32))
def test_each_line_is_one_event_or_keeps_its_text(
    spark: Any, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    draw = Random(seed)
    pieces = OBJECTS * 4 + JUNK + ENDS
    files = GLUED + [b"".join(draw.choices(pieces, k=draw.randrange(9))) for _ in range(300)]
    found = landed(spark, tmp_path_factory.mktemp("landed") / "events", files)
    wrong = [
        (content, rows - wanted, wanted - rows)
        for content, rows, wanted in zip(files, found, map(judged, files), strict=True)
        if rows != wanted
    ]
    assert wrong == []
