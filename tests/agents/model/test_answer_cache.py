import json
import subprocess
import sys
from pathlib import Path

import pytest

from caspers_lib.agents.model.answer_cache import AnswerCache, CachedAnswer, cache_key

KEY = cache_key({"model": "m"})
ANSWER = CachedAnswer('{"reason": "späť \ud800 \x00"}', 120, 30)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_is_got_by_another_process_s_cache(tmp_path: Path) -> None:
    AnswerCache(tmp_path / "new").put(KEY, ANSWER)
    assert AnswerCache(tmp_path / "new").get(KEY) == ANSWER


def test_what_was_never_put_is_not_there_and_makes_no_folder(tmp_path: Path) -> None:
    assert AnswerCache(tmp_path / "new").get(KEY) is None
    assert not (tmp_path / "new").exists()


def test_files_lie_in_shards_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    for number in range(300):
        cache.put(cache_key({"n": number}), ANSWER)
    cache.put(cache_key({"n": 0}), ANSWER)
    assert len(files(tmp_path)) == 300
    assert all(path.parent.name == path.name[:2] for path in files(tmp_path))
    assert len(list(tmp_path.iterdir())) > 100


def test_the_same_facts_in_another_order_are_the_same_answer_and_others_another() -> None:
    one = cache_key({"a": 1, "messages": [{"role": "user", "content": "x"}]})
    assert one == cache_key({"messages": [{"content": "x", "role": "user"}], "a": 1})
    assert one != cache_key({"a": 1, "messages": [{"role": "user", "content": "y"}]})
    assert len(one) == 64


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b"\xff\xfe\x00",
        b'{"version": 1}',
        b'{"version": 1, "text": null, "input_tokens": 1, "output_tokens": 1}',
        b'{"version": 1, "text": "x", "input_tokens": -1, "output_tokens": 1}',
        b'{"version": 1, "text": "x", "input_tokens": "1", "output_tokens": 1}',
        b'{"version": 2, "text": "x", "input_tokens": 1, "output_tokens": 1}',
        b"[" * 100_000,
        b'{"version": 1, "text": "' + b"x" * 1_000_000 + b'"}',
    ],
)
def test_a_damaged_file_is_a_miss_and_makes_room(tmp_path: Path, damage: bytes) -> None:
    cache = AnswerCache(tmp_path)
    cache.put(KEY, ANSWER)
    [file] = files(tmp_path)
    file.write_bytes(damage)
    assert cache.get(KEY) is None
    assert files(tmp_path) == []
    cache.put(KEY, ANSWER)
    assert cache.get(KEY) == ANSWER


def test_a_folder_in_a_file_s_place_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / KEY[:2] / f"{KEY}.json").mkdir(parents=True)
    assert AnswerCache(tmp_path).get(KEY) is None


def test_a_write_that_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / KEY[:2] / f"{KEY}.json").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        AnswerCache(tmp_path).put(KEY, ANSWER)
    assert files(tmp_path) == []


def test_a_file_holds_the_answer_and_no_question(tmp_path: Path) -> None:
    AnswerCache(tmp_path).put(cache_key({"messages": "the question", "key": "sk-1"}), ANSWER)
    [file] = files(tmp_path)
    assert set(json.loads(file.read_bytes())) == {
        "version",
        "text",
        "input_tokens",
        "output_tokens",
    }


WRITER = """
import sys
from pathlib import Path
from caspers_lib.agents.model.answer_cache import AnswerCache, CachedAnswer
folder, key, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
cache = AnswerCache(folder)
for _ in range(200):
    cache.put(key, CachedAnswer(name * 2_000, 1, 1))
    found = cache.get(key)
    assert found and found.text == found.text[0] * 2_000, found
"""


def test_processes_that_write_the_same_answer_never_see_half_of_one(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, KEY, name]) for name in "abcd"
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert len(files(tmp_path)) == 1
