"""A picture of the pipeline: its tables, what flows into what, their rows and last update.

Contract: docs/contracts.md, Tables. The edges follow from the domain, as the tables do. Text is
data: names are escaped for Mermaid and for SVG.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Literal

from caspers_lib.domain import GHOST_KITCHEN, Domain

__all__ = ["PipelineGraph", "TableState", "pipeline_graph"]

Form = Literal["mermaid", "svg"]
Layer = Literal["source", "bronze", "silver", "gold"]
_LAYERS: tuple[Layer, ...] = ("source", "bronze", "silver", "gold")
_COLOURS = {"source": "#e8eef5", "bronze": "#f3dfcf", "silver": "#e6e8eb", "gold": "#f7ecc4"}
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 270, 58, 90, 22, 24


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table holds.

    Args:
        rows: its rows.
        updated: when it was last written, UTC; None where that is not known.
    """

    rows: int
    updated: datetime | None


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    layer: Layer
    state: TableState | None

    @property
    def detail(self) -> str:
        if self.state is None:
            return "not there yet"
        rows = f"{self.state.rows:,} rows"
        return f"{rows}, {self.state.updated:%Y-%m-%d %H:%M} UTC" if self.state.updated else rows


@dataclass(frozen=True, slots=True)
class PipelineGraph:
    """Nodes, and edges as pairs of their names.

    Args:
        nodes: sources and tables, upstream first.
        edges: what flows into what.
    """

    nodes: tuple[_Node, ...]
    edges: tuple[tuple[str, str], ...]

    def render(self, form: Form) -> str:
        """The picture as text.

        Args:
            form: `mermaid`, for Markdown that renders it, or `svg`, a file of its own.
        """
        return self._mermaid() if form == "mermaid" else self._svg()

    def _mermaid(self) -> str:
        numbers = {node.name: f"n{i}" for i, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for layer in _LAYERS:
            lines.append(f"  subgraph {layer}")
            for node in (n for n in self.nodes if n.layer == layer):
                # Quoted labels take HTML entities: nothing in a name can end the label.
                label = f"{escape(node.name)}<br/>{escape(node.detail)}".replace("#", "#35;")
                lines.append(f'    {numbers[node.name]}["{label}"]')
            lines.append("  end")
        lines += [f"  {numbers[a]} --> {numbers[b]}" for a, b in self.edges]
        return "\n".join(lines) + "\n"

    def _svg(self) -> str:
        places = self._places()
        height = max(y for _, y in places.values()) + _HEIGHT + _MARGIN
        width = len(_LAYERS) * (_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="14">',
            "<title>Tables of the pipeline and what flows into what</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]
        for start, end in self.edges:
            (x1, y1), (x2, y2) = places[start], places[end]
            # Where both are in one column the line leaves and enters on the right.
            same = x1 == x2
            x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
            x2 = x2 + _WIDTH if same else x2
            bend = x1 + _GAP_X // 2 if same else (x1 + x2) // 2
            parts.append(
                f'<path d="M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}" '
                'fill="none" stroke="#8894a3" stroke-width="1.5"/>'
            )
        for node in self.nodes:
            x, y = places[node.name]
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
                f'fill="{_COLOURS[node.layer]}" stroke="#8894a3"/>'
                f'<text x="{x + 12}" y="{y + 24}" fill="#1c2733">{escape(node.name)}</text>'
                f'<text x="{x + 12}" y="{y + 44}" fill="#4a5866" font-size="12">'
                f"{escape(node.detail)}</text>"
            )
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _places(self) -> dict[str, tuple[int, int]]:
        """Left upper corner of each node: a column a layer, centred."""
        columns = [[n.name for n in self.nodes if n.layer == layer] for layer in _LAYERS]
        tallest = max(map(len, columns))
        places = {}
        for number, names in enumerate(columns):
            top = _MARGIN + (tallest - len(names)) * (_HEIGHT + _GAP_Y) // 2
            for row, name in enumerate(names):
                x = _MARGIN + number * (_WIDTH + _GAP_X)
                places[name] = (x, top + row * (_HEIGHT + _GAP_Y))
        return places


def pipeline_graph(
    states: Mapping[str, TableState],
    *,
    events: TableState | None = None,
    direct_events: str | None = None,
    domain: Domain = GHOST_KITCHEN,
) -> PipelineGraph:
    """The pipeline's graph with what its tables hold.

    Args:
        states: by the table's name; tables that are not there are left out.
        events: the event files.
        direct_events: the table of directly ingested events, if there is one.
        domain: the business.
    """
    items, lifecycle = domain.line_items.table, domain.lifecycle.table
    source = {"line_items": items, "lifecycle": lifecycle}
    files = "event files"
    sources = [_Node(files, "source", events)]
    edges = [(files, domain.bronze)]
    if direct_events is not None:
        sources.append(_Node(direct_events, "source", states.get(direct_events)))
        edges.append((direct_events, domain.bronze))
    silver = (items, lifecycle, domain.quarantine)
    return PipelineGraph(
        nodes=(
            *sources,
            _Node(domain.bronze, "bronze", states.get(domain.bronze)),
            *(_Node(name, "silver", states.get(name)) for name in silver),
            *(_Node(t.name, "gold", states.get(t.name)) for t in domain.gold),
        ),
        edges=(
            *edges,
            *((domain.bronze, name) for name in silver),
            *((source[t.source], t.name) for t in domain.gold),
        ),
    )
