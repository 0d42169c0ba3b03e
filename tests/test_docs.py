"""The documentation is true: its blocks run, its commands, links, tables and messages exist."""

import ast
import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from caspers_lib.cli import app
from caspers_lib.runtime.agent_models import MODEL_KEY
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.settings import Settings, load_settings
from caspers_lib.runtime.status import read_status

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda page: page.relative_to(ROOT)
)
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_INLINE = re.compile(r"`([^`\n]+)`")

_CITATION = re.compile(r"docs/contracts\.md, ([A-Z][a-z]+(?: and [a-z]+| line)?)")

every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT)).removesuffix(".md")
)


def blocks(page: Path, info: str) -> Iterator[tuple[int, str]]:
    """Fenced blocks with exactly this info string: the line of their first line, their text."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        if found["info"].strip() == info:
            yield text.count("\n", 0, found.start("code")) + 1, found["code"]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def table_rows(page: Path) -> list[list[str]]:
    """Cells of every table row of the page, headings and rulers included."""
    lines = prose(page).splitlines()
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in lines
        if line.startswith("|")
    ]


def code_of(cell: str) -> list[str]:
    return _INLINE.findall(cell)


def script(page: Path) -> str:
    """The page's Python blocks as one program in which every line has its number in the page."""
    program = ""
    for line, code in blocks(page, "python"):
        program += "\n" * (line - 1 - program.count("\n")) + code
    return program


@pytest.mark.parametrize(
    "page", [page for page in PAGES if script(page)], ids=lambda page: page.name
)
def test_python_blocks_run_in_order_in_an_empty_folder(page: Path, tmp_path: Path) -> None:
    program = tmp_path / f"{page.name}.py"
    program.write_text(script(page), encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    answer = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_the_readme_has_blocks_that_run() -> None:
    assert len(list(blocks(ROOT / "README.md", "python"))) >= 2


@every_page
def test_blocks_say_what_they_are(page: Path) -> None:
    known = {"python", "python no-run", "console", "json", "text"}
    found = {m["info"].strip() for m in _FENCE.finditer(page.read_text(encoding="utf-8"))}
    assert found <= known


@every_page
def test_python_that_is_not_run_is_python_and_imports_what_exists(page: Path) -> None:
    for _, code in blocks(page, "python no-run"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(str(node.module))
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []


def commands(page: Path) -> Iterator[str]:
    """Shell commands in console blocks and in inline code."""
    for _, code in blocks(page, "console"):
        yield from (line.removeprefix("$ ") for line in code.splitlines() if line[:2] == "$ ")
    yield from _INLINE.findall(prose(page))


def refuse_unknown(command: str) -> None:
    """Parse a `caspers` command as the program would, without running it.

    Raises:
        Exception: the command or an option does not exist, or a value has the wrong type.
    """
    node: Any = typer.main.get_command(app)
    words = command.split()[1:]
    while hasattr(node, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in node.commands, f"there is no command {name!r} in {command!r}"
        node = node.commands[name]
    if "--help" not in words:
        assert hasattr(node, "commands") or node.callback is not None
        if words or not hasattr(node, "commands"):
            node.make_context(command, words)


@every_page
def test_caspers_commands_exist_with_their_options(page: Path) -> None:
    for command in commands(page):
        if re.match(r"(\S*/)?caspers( |$)", command) and "..." not in command:
            refuse_unknown(command)


def test_a_command_or_option_that_does_not_exist_is_noticed() -> None:
    for command, reason in (
        ("caspers dem", "no command 'dem'"),
        ("caspers demo --onze", "No such option"),
        ("caspers dataset generate --days many", "valid integer"),
        ("caspers dataset check a.parquet b.parquet", "unexpected extra argument"),
    ):
        with pytest.raises(Exception, match=reason):
            refuse_unknown(command)


@every_page
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {c.split()[1] for c in commands(page) if re.match(r"make \w", c)}
    assert named - targets == set()


@every_page
def test_links_and_images_resolve(page: Path) -> None:
    broken = []
    for found in _LINK.finditer(prose(page)):
        target, _, anchor = found["target"].partition("#")
        if target.startswith(("https://", "mailto:")):
            continue
        place = (page.parent / target).resolve() if target else page
        exists = place.is_relative_to(ROOT) and place.exists()
        if not exists or (anchor and anchor not in anchors(place)):
            broken.append(found["target"])
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The names that headings get on the web."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_image_is_used() -> None:
    used = {
        (page.parent / found["target"]).resolve()
        for page in PAGES
        for found in _LINK.finditer(page.read_text(encoding="utf-8"))
    }
    assert [i.name for i in (ROOT / "docs" / "images").iterdir() if i not in used] == []


@every_page
def test_files_and_modules_named_in_code_exist(page: Path) -> None:
    paths = re.compile(r"(caspers_lib|tests|docs)/[\w./-]+")
    named = [text for text in _INLINE.findall(prose(page)) if paths.fullmatch(text)]
    assert [text for text in named if not (ROOT / text).exists()] == []


def test_source_comments_point_to_pages_that_exist() -> None:
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "caspers_lib").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"docs/[\w./-]+\.md", text)}
    assert "docs/decisions/local-spark.md" in named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_each_contract_that_the_code_cites_is_a_section() -> None:
    contracts = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (.+)$", contracts, re.MULTILINE))
    texts = [p.read_text(encoding="utf-8") for p in (ROOT / "caspers_lib").rglob("*.py")]
    cited = {name for text in texts for name in _CITATION.findall(text)}
    assert cited >= {"Agents", "Sync and console"}
    assert cited <= sections


def test_every_decision_is_listed_and_has_its_parts() -> None:
    listed = {found["target"] for found in _LINK.finditer(prose(DECISIONS / "README.md"))}
    pages = [page for page in DECISIONS.glob("*.md") if page.name != "README.md"]
    assert {page.name for page in pages} == listed
    for page in pages:
        headings = re.findall(r"^## (.+)$", prose(page), re.MULTILINE)
        parts = ["Context", "Decision", "Why", "Measured", "Consequences"]
        if page.name == "dependencies.md":  # each row is its own why
            parts.remove("Why")
        assert headings == parts, page.name


def test_each_dependency_is_on_its_page_with_its_extras_and_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {
        "base": project["project"]["dependencies"],
        "build": project["build-system"]["requires"],
        **project["project"]["optional-dependencies"],
    }
    declared: dict[str, set[str]] = {}
    for extra, requirements in groups.items():
        for requirement in requirements:
            name = re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]
            if name != project["project"]["name"]:
                declared.setdefault(name, set()).add(extra)
    rows = [row for row in table_rows(DECISIONS / "dependencies.md") if code_of(row[0])]
    assert {code_of(name)[0]: set(extras.split(", ")) for name, extras, _ in rows} == declared
    assert [name for name, _, reason in rows if len(reason) < 9] == []


def test_vendored_scripts_are_on_the_dependencies_page() -> None:
    page = (DECISIONS / "dependencies.md").read_text(encoding="utf-8")
    vendored = (ROOT / "caspers_lib" / "console" / "static" / "vendor").glob("*.js")
    names = {re.split(r"[.-]", path.name)[0] for path in vendored}
    assert names
    assert [name for name in names if f"**{name}**" not in page] == []


def test_the_readme_names_every_package() -> None:
    packages = {p.parent.name for p in (ROOT / "caspers_lib").glob("*/__init__.py")}
    rows = table_rows(ROOT / "README.md")
    named = {code_of(row[0])[0] for row in rows if len(row) == 3 and code_of(row[0])}
    assert packages <= named


def test_the_guide_has_every_parameter_with_its_default() -> None:
    rows = [r for r in table_rows(ROOT / "docs" / "guide.md") if r[0].startswith("`CASPERS_")]
    documented = {code_of(name)[0]: (code_of(default) or [""])[0] for name, default, _ in rows}
    defaults = {f"CASPERS_{n.upper()}": str(v) for n, v in Settings().model_dump().items()}
    assert documented == {"CASPERS_ROOT": ".caspers", MODEL_KEY: "", **defaults}


def test_the_guide_describes_every_command() -> None:
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    top: Any = typer.main.get_command(app)
    for name, command in top.commands.items():
        assert f"### caspers {name}" in text
        for part in getattr(command, "commands", {}):
            assert f"caspers {name} {part}" in text


def test_the_guides_status_document_has_the_programs_shape(tmp_path: Path) -> None:
    [(_, block)] = blocks(ROOT / "docs" / "guide.md", "json")
    real = read_status(LocalRoot(tmp_path / "root", load_settings(environment={})), time.time())

    def shape(value: object, name: str = "") -> object:
        if isinstance(value, dict) and name != "tables":
            return {key: shape(inner, key) for key, inner in value.items()}
        return name

    assert shape(json.loads(block)) == shape(real.as_document())


def test_the_architectures_stages_are_the_programs(tmp_path: Path) -> None:
    business = LocalBusiness(LocalRoot(tmp_path, load_settings(environment={})))
    rows = table_rows(ROOT / "docs" / "architecture.md")
    named = {s.name for s in business.start_up()}
    documented = {
        code_of(row[0])[0]: set(code_of(row[1]))
        for row in rows
        if code_of(row[0]) and code_of(row[0])[0] in named
    }
    assert documented == {stage.name: set(stage.after) for stage in business.start_up()}


def message_templates() -> list[str]:
    """Every text of the package's source, with … where a value is filled in."""
    found = []
    for path in (ROOT / "caspers_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                found.append("".join(map(str, parts)))
    return found


def test_the_errors_that_the_guide_explains_exist() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    _, _, section = guide.partition("\n| it says |")
    rows = re.findall(r"^\| `([^`]+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    assert len(rows) > 10
    templates = message_templates()

    def exists(message: str) -> bool:
        pattern = ".+".join(map(re.escape, re.split(r"…|<\w+>", message)))
        return any(re.fullmatch(pattern, text) for text in templates)

    assert [message for message in rows if not exists(message)] == []


def test_every_test_that_the_invariants_name_exists() -> None:
    page = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 10
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"
