"""What a comparison of candidate and champion has found."""

from dataclasses import dataclass, field

from sentiflow.metrics import paired
from sentiflow.metrics.registry import find_metric


@dataclass(frozen=True)
class HeadlineTest:
    """Candidate and champion by the metric that ``evaluate.headline`` names."""

    metric: str = "accuracy"
    """Its name in ``metrics.registry``."""
    candidate: float | None = None
    """The candidate's value; None if it is undefined on the rows."""
    champion: float | None = None
    """None also if there is no champion yet."""
    difference: paired.Difference | None = None
    """The candidate's minus the champion's; None without a champion, or if undefined."""

    @property
    def phrase(self) -> str:
        """Name the metric inside a sentence."""
        return find_metric(self.metric).phrase

    @property
    def gain(self) -> float | None:
        """Return the difference in the direction of the metric: above 0 the candidate is better."""
        if self.difference is None:
            return None
        return find_metric(self.metric).gain(self.difference.value)

    def write_outcome(self) -> str:
        """Write metric, difference and p-value; empty without a difference.

        Example:
            >>> found = paired.Difference(-0.25, -0.4, -0.1, p_value=0.0121)
            >>> HeadlineTest("mae", candidate=1.5, champion=1.75, difference=found).write_outcome()
            'mean absolute error -0.2500, p = 0.012'
        """
        if self.difference is None or self.difference.p_value is None:
            return ""
        p_value = paired.write_p(self.difference.p_value)
        return f"{self.phrase} {self.difference.value:+.4f}, {p_value}"


@dataclass(frozen=True)
class ChampionTest:
    """Candidate and champion on the same test rows."""

    num_rows: int
    """Test rows whose texts neither model was trained on or chosen by, as far as is known."""
    candidate_accuracy: float
    champion_accuracy: float | None
    """None if there is no champion yet."""
    only_candidate_right: int
    """Rows on which only the candidate is right; 0 without a champion."""
    only_champion_right: int
    p_value: float | None = None
    """The p-value of McNemar's test that both are right equally often; None without a champion."""
    candidate_f1_macro: float | None = None
    champion_f1_macro: float | None = None
    f1_macro_difference: paired.Difference | None = None
    """The candidate's macro F1 minus the champion's; None without a champion, or if undefined."""
    classes: tuple[str, ...] = ()
    """Classes that both models have."""
    other_classes: tuple[str, ...] = ()
    """Classes that only one of the two models has: rows with these labels are mistakes of the model
    that does not have them."""
    unknown_classes: tuple[str, ...] = ()
    """Labels that neither model has: their rows are mistakes of both."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows by class that the settings of a training leave out; they are not compared."""
    difference: paired.Difference | None = None
    """The candidate's accuracy minus the champion's; None without a champion."""
    num_seen: int = 0
    """Test rows that are left out: their text was used to train or choose one of the models."""
    unknown: tuple[str, ...] = ()
    """URIs of the versions whose training texts are not all known."""
    num_authors: int = 0
    """Authors of the rows, where the split is by user and the users were kept: intervals and tests
    are by author. Otherwise 0."""
    num_judged: int = 1
    """Versions that were judged on this test split so far, candidate and champion included."""
    num_compared: int = 0
    """Versions that were compared with a champion on this test split so far, this one included."""
    selection_bias: float = 0
    """If so many versions were equally accurate, the best of them would look better than it is by
    this much, on average: see ``metrics.selection``. 0 if the headline is not accuracy."""
    headline: HeadlineTest = HeadlineTest()
    """The metric that decides, see ``evaluate.headline``."""


def write_value(value: float | None) -> str:
    """Write the value of a headline."""
    if value is None:
        return "undefined"
    return f"{round(value, 4) + 0.0:.4f}"  # not -0.0000
