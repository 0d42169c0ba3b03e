"""An evaluation on a terminal: agreement, confusion, cost, latency and the worst cases.

What agents and customers wrote is shown as text, never read as markup.
"""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from caspers_lib.agents.evaluation.golden_set import Verdict
from caspers_lib.agents.evaluation.report import NO_ANSWER, EvaluationReport, WorstCase
from caspers_lib.agents.model.excerpts import excerpt

__all__ = ["evaluation_view"]

_LABELS = ("none", "partial", "full", "suggest_credit", "escalate")
_LAST = ("error", NO_ANSWER)
_REASON_CHARS = 200
_ID_CHARS = 40
_SMALL_SECONDS = 0.1


def evaluation_view(
    report: EvaluationReport, unused_labels: int = 0, *, is_priced: bool = False
) -> Group:
    """The report for people.

    Args:
        report: what came of the evaluation.
        unused_labels: labels that name nothing in the dataset.
        is_priced: whether the model's prices are known.
    """
    parts: list[RenderableType] = [_summary(report, unused_labels, is_priced)]
    parts += [Text(), _confusion_table(report), Text(), _kinds_table(report)]
    if report.worst:
        parts += [Text(), _worst_table(report)]
    return Group(*parts)


def _summary(report: EvaluationReport, unused_labels: int, is_priced: bool) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    what = "refunds" if report.agent == "refund" else "complaints"
    error = report.mean_error_usd
    rows = [
        ("agent", f"{report.agent}, answered by {report.answered_by}"),
        ("cases", f"{report.cases:,} {what}, {report.answered:,} answered"),
        ("exactly right", _of(report, report.exact)),
        ("right decision", _of(report, report.same_decision)),
        (
            "mean error",
            "-" if error is None else f"{error} USD over {report.priced:,} pairs of amounts",
        ),
        ("cost", _cost(report, is_priced)),
        ("latency", _latency(report)),
    ]
    if report.labelled or unused_labels:
        unused = f"; {unused_labels:,} labels name nothing here" if unused_labels else ""
        rows.append(("labels", f"{report.labelled:,} cases are judged by people's{unused}"))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _of(report: EvaluationReport, count: int) -> str:
    share = report.share(count)
    # Rounded down: 100 % is said where nothing is wrong, and only there.
    shown = "-" if share is None else f"{int(share * 10_000) / 100:.2f} %"
    return f"{shown} ({count:,} of {report.cases:,})"


def _cost(report: EvaluationReport, is_priced: bool) -> str:
    if not report.calls:
        return "no calls to a model"
    tokens = f"{report.input_tokens:,} tokens in, {report.output_tokens:,} out"
    price = f"{report.usd:.4f} USD" if is_priced else "no prices given"
    return f"{report.calls:,} calls, {tokens}, {price}"


def _latency(report: EvaluationReport) -> str:
    if report.p50_seconds is None or report.p95_seconds is None:
        return "-"
    return f"P50 {_duration(report.p50_seconds)}, P95 {_duration(report.p95_seconds)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= _SMALL_SECONDS else f"{seconds * 1000:.3f} ms"


def _confusion_table(report: EvaluationReport) -> Table:
    expected = sorted({row for row, _ in report.confusion}, key=_rank)
    given = sorted({column for _, column in report.confusion}, key=_rank)
    table = Table(title="right answer (rows) and given answer (columns)", title_justify="left")
    table.add_column("right", no_wrap=True)
    for label in given:
        table.add_column(_wrappable(label), justify="right")
    for row in expected:
        cells = []
        for column in given:
            count = report.confusion.get((row, column), 0)
            style = "" if not count else "green" if row == column else "red"
            cells.append(Text(f"{count:,}" if count else "·", style=style))
        table.add_row(_wrappable(row), *cells)
    return table


def _wrappable(label: str) -> Text:
    return Text(label.replace("_", " "))


def _rank(label: str) -> tuple[int, str]:
    order = (*_LABELS, *_LAST)
    decision = label if label in order else label.partition(" ")[0]
    return order.index(decision) if decision in order else len(_LABELS), label


def _kinds_table(report: EvaluationReport) -> Table:
    table = Table("kind of case")
    for name in ("cases", "exactly right"):
        table.add_column(name, justify="right")
    for agreement in report.kinds:
        style = "" if agreement.exact == agreement.cases else "red"
        exact = Text(f"{agreement.exact:,}", style=style)
        table.add_row(Text(agreement.kind), f"{agreement.cases:,}", exact)
    return table


def _worst_table(report: EvaluationReport) -> Table:
    table = Table(title="worst cases", title_justify="left")
    for name in ("order", "kind", "right", "given"):
        table.add_column(name, overflow="fold")
    table.add_column("reason", overflow="fold", ratio=1)
    for case in report.worst:
        table.add_row(*map(Text, _worst_row(case)))
    return table


def _worst_row(case: WorstCase) -> tuple[str, ...]:
    order = excerpt(case.order_id, _ID_CHARS)[1:-1]
    given = _shown(case.given) if case.given else NO_ANSWER
    reason = excerpt(case.reason, _REASON_CHARS)[1:-1]
    return order, case.kind, _shown(case.expected), given, reason


def _shown(verdict: Verdict) -> str:
    return verdict.label if verdict.usd is None else f"{verdict.label} {verdict.usd:.2f} USD"
