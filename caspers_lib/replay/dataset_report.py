"""The report of `caspers dataset check`: a dataset's facts, judged, for people and for programs."""

from dataclasses import asdict, dataclass
from typing import Any

from caspers_lib.replay.dataset_facts import DatasetFacts
from caspers_lib.replay.dataset_quarantine import Quarantine
from caspers_lib.replay.dataset_targets import Verdict, verdicts
from caspers_lib.replay.dataset_text import report_lines

__all__ = ["DatasetReport"]


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a valid dataset holds, against the rules of the tables and the canonical targets.

    Args:
        facts: what was found.
        quarantine: what the rules would set aside.
    """

    facts: DatasetFacts
    quarantine: Quarantine

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Each target of the canonical dataset; judged where the dataset is comparable."""
        return verdicts(self.facts)

    def lines(self) -> list[str]:
        """The report as text for people; at most 100 columns, the file's path aside."""
        return report_lines(self.facts, self.verdicts, self.quarantine)

    def as_document(self) -> dict[str, Any]:
        """The report for programs: values that JSON knows, figures unrounded.

        The keys are those of `DatasetFacts`, with `growth`, `peaks`, `first_week` and `last_week`
        in each location, and with `weekend_lift`, `targets` (name, wanted, found, met) and
        `quarantine` (groups, unjudged).
        """
        facts = self.facts
        locations = [
            {
                **asdict(at),
                "first_week": at.first_week,
                "last_week": at.last_week,
                "growth": at.growth,
                "peaks": at.peaks,
            }
            for at in facts.locations
        ]
        return {
            **asdict(facts),
            "path": str(facts.path),
            "locations": locations,
            "weekend_lift": facts.weekend_lift,
            "targets": [asdict(verdict) for verdict in self.verdicts],
            "quarantine": asdict(self.quarantine),
        }
