"""The library's size as a ratchet: what has become smaller stays so. `make size` prints it."""

import ast
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "caspers_lib"
# Lower a figure when it has been reached; the aim: 27,000, 140, 6.0, 0.
BUDGETS = {"lines": 43_800, "modules": 268, "private functions per 1,000 lines": 16.0,
           "modules over 450 lines": 0}  # fmt: skip


@dataclass
class Size:
    """What the sources of a package come to."""

    lines: Counter[str] = field(default_factory=Counter)
    modules: Counter[str] = field(default_factory=Counter)
    longest_modules: list[tuple[int, str]] = field(default_factory=list)
    longest_functions: list[tuple[int, str]] = field(default_factory=list)
    private_functions: list[str] = field(default_factory=list)
    called_once: list[str] = field(default_factory=list)
    one_importer: list[str] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, float]:
        total = sum(self.lines.values())
        return {
            "lines": total,
            "modules": sum(self.modules.values()),
            "private functions per 1,000 lines": round(
                1_000 * len(self.private_functions) / total, 1
            ),
            "modules over 450 lines": sum(lines > 450 for lines, _ in self.longest_modules),
        }


def size_of(package: Path) -> Size:
    size = Size()
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    imported: Counter[str] = Counter()
    for path, text in sources.items():
        place = path.relative_to(package)
        part = place.parts[0] if len(place.parts) > 1 else "."
        lines = text.count("\n")
        size.lines[part] += lines
        size.modules[part] += 1
        size.longest_modules.append((lines, str(place)))
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                size.longest_functions.append((length, f"{place}:{node.lineno} {node.name}"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and re.match("_[^_]", node.name):
                size.private_functions.append(f"{place} {node.name}")
                if len(re.findall(rf"\b{node.name}\b", text)) == 2:
                    size.called_once.append(f"{place} {node.name}")
        imported.update(set(re.findall(rf"{package.name}(?:\.\w+)+", text)))
    for path in sources:
        name = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        if imported[name] == 1:
            size.one_importer.append(name)
    for longest in (size.longest_modules, size.longest_functions):
        longest.sort(reverse=True)
    return size


def report(size: Size) -> str:
    parts = [f"{part:<12}{size.lines[part]:>8,} lines{size.modules[part]:>6} modules"
             for part in sorted(size.lines)]  # fmt: skip
    figures = [f"{name}: {value:,g} (at most {BUDGETS[name]:,g})"
               for name, value in size.figures.items()]  # fmt: skip
    return "\n".join([
        *parts, "", *figures,
        f"private functions called once: {len(size.called_once)}",
        f"modules that one other imports: {len(size.one_importer)}",
        "longest modules:", *(f"  {n:>5} {name}" for n, name in size.longest_modules[:8]),
        "longest functions:", *(f"  {n:>5} {name}" for n, name in size.longest_functions[:8]),
    ])  # fmt: skip


@pytest.mark.parametrize("name", BUDGETS)
def test_the_library_stays_within_its_budget(name: str) -> None:
    assert size_of(PACKAGE).figures[name] <= BUDGETS[name]


def test_what_is_too_much_is_counted(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text("def _f():\n    pass\n\n\n_f()\n", encoding="utf-8")
    size = size_of(tmp_path / "p")
    assert size.figures["lines"] == 5
    assert (len(size.private_functions), len(size.called_once)) == (1, 1)


if __name__ == "__main__":
    print(report(size_of(PACKAGE)))
