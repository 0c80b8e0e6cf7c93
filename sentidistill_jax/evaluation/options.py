"""Documented deviations from the reference scorer, all off by default."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ScoringOptions:
    """Which repairs of the reference's oddities are on; see docs/fidelity.md for each.

    Scores with any of them on must not be compared with published numbers.
    """

    lenient_parsing: bool = False  # Q7: prose, several lines, JSON lists and unclosed answers
    per_item_checks: bool = False  # Q8: a bad item is one wrong prediction, and only that
    set_counting: bool = False  # Q9: repeated right answers count once
    strip_gold: bool = False  # Q11: blanks at the edges of gold values are ignored
    strict_opener: bool = False  # Q12: opinions are located and weighted as one would expect


OFFICIAL = ScoringOptions()
