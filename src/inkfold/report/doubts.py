"""What speaks against a run's figures: its warnings and what an audit found, the gravest first, those of one kind together."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inkfold.pipeline.run_files import RunFiles

MOST_OPEN = 3
WIDE_POINTS = 0.1  # an interval so wide hides most of what recipes differ by
# What a warning is about, by words that its text has: figures that are too high first, then data that are missing or doubtful.
GRAVITIES = (
    r"optimistic|other folds|weights were trained on|cop(y|ies) of (a )?drawings?|(same|whole|parts?|splits?|keeps?) .*group",
    r"no usable training drawing|fewer than the|can't be trained|share of|half again|label|blank training|left out",
)
VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9][0-9.,]*")  # names and numbers, in which warnings of one kind differ


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that speaks against a run's figures.

    Attributes:
        text: What it is and what to do, as the run or a later command said it.
        more: The other warnings of the same kind.
        gravity: 0 for figures that are too high, 1 for data that are missing or doubtful, 2 for the rest.
    """

    text: str
    more: tuple[str, ...] = ()
    gravity: int = 2


def doubts(run: RunFiles, figures: dict[str, Any] | None) -> list[Doubt]:
    """List what speaks against a run's figures, the gravest first.

    Args:
        run: Files of the run or ensemble.
        figures: The figures that the run is reported by, with `accuracy_ci95`; None where nothing could be measured.
    """
    found = [*_of_audit(run), *_together(_not_said(run, figures)), *_of_interval(figures)]
    return sorted(found, key=lambda doubt: doubt.gravity)


def open_and_folded(run: RunFiles, figures: dict[str, Any] | None) -> dict[str, list[Doubt]]:
    """Divide the doubts into the few that a page shows openly, and the rest, which it folds."""
    found = doubts(run, figures)
    return {"open": found[:MOST_OPEN], "folded": found[MOST_OPEN:]}


def _not_said(run: RunFiles, figures: dict[str, Any] | None) -> list[str]:
    """Take the warnings but those that the page's headline says itself, with figures."""
    said = [r"^the backbone's weights were trained on"] if "learnt_by_backbone" in run.metrics else []
    said += [r"were chosen by the held-out drawings"] if figures is not None and figures.get("kept") is not None else []
    said += [r"are copies of drawings? trained on|are cop(y|ies) of"] if "leaks" in run.metrics else []
    said += [r"Each group stays in one fold"] if "groups" in run.metrics else []
    return [text for text in run.manifest["warnings"] if not any(re.search(words, text) for words in said)]


def _together(warnings: Sequence[str]) -> Iterator[Doubt]:
    """Put warnings together that differ by their place, and by names and numbers alone."""
    of_kind: dict[str, list[str]] = {}
    for text in warnings:
        of_kind.setdefault(VARIABLE.sub("", text.partition(": ")[2] or text), []).append(text)
    for texts in of_kind.values():
        gravity = next((i for i, words in enumerate(GRAVITIES) if re.search(words, texts[0])), len(GRAVITIES))
        yield Doubt(texts[0], tuple(texts[1:]), gravity)


def _of_audit(run: RunFiles) -> Iterator[Doubt]:
    if run.audit is None:
        return
    counts = run.audit["duplicates"]["counts"]
    if counts["leak"]:
        groups = f"{counts['leak']:,} group{'s' if counts['leak'] > 1 else ''}"
        yield Doubt(
            f"The audit found {groups} of copies that are trained on and evaluated on: the figure is optimistic.", (), 0
        )
    if counts["across"]:
        groups = f"{counts['across']:,} group{'s' if counts['across'] > 1 else ''}"
        yield Doubt(f"The audit found {groups} of copies with different labels: at most one of the labels is right.", (), 1)


def _of_interval(figures: dict[str, Any] | None) -> Iterator[Doubt]:
    """Say that an interval is wide, where it is."""
    if figures is not None:
        low, high = figures["accuracy_ci95"]
        if high - low > WIDE_POINTS:
            text = f"The interval is {100 * (high - low):.0f} points wide: smaller differences between runs can't be seen"
            yield Doubt(f"{text} on {figures['n']:,} drawings, unless they are paired (inkfold report RUN RUN).", (), 1)
