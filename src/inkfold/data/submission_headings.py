"""Finds a submission's columns that are called after classes, for probabilities, or after ranks: `label1,label2,label3`."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from inkfold.data.labels import clean_name
from inkfold.data.submission_labels import ClassTexts, numbered_by_order
from inkfold.data.submission_sample import Sample
from inkfold.data.tables import quoted
from inkfold.errors import Problem


def match_headings(sample: Sample, texts: ClassTexts, problems: list[Problem]) -> dict[int, str] | None:
    """Find the columns that are called after classes, one for each class.

    Args:
        sample: The sample submission, as read.
        texts: What may stand for each class.
        problems: Classes without a column and columns without a class are appended where most of them match.

    Returns:
        The class name of each such column, by the column's place; None if the columns aren't called after classes.
    """
    names, headings = texts.classes.names, [clean_name(heading) for heading in sample.headings]
    best, by_number = _best_match(headings, texts)
    covered = {*best.values()}
    if not _are_numbers(sample, best) or _ranks_numbers(sample, texts):
        return None
    if len(covered) == len(names) == len(best):
        if by_number and not texts.has_numbers:
            problems.append(numbered_by_order(sample.name, texts))
        return {place: names[index] for place, index in best.items()}
    if _shifted(sample, texts, problems):
        return {}
    if len(covered) < 2 or 2 * len(covered) < min(len(names), len(headings) - 1):
        return None
    absent = [name for index, name in enumerate(names) if index not in covered]
    doubled = [headings[place] for place, index in best.items() if [*best.values()].count(index) > 1]
    if absent:
        text = f"has no column for {len(absent)} of {len(names)} classes: {quoted(absent, 5)}. "
        problems.append(
            Problem("sample_classes", sample.name, f"{text}Take the sample of this contest, or correct the classes.")
        )
    if doubled:
        text = f"has several columns for a class: {quoted(doubled, 5)}, expected one. Remove the others."
        problems.append(Problem("sample_classes", sample.name, text))
    return {place: names[index] for place, index in best.items()}


def _best_match(headings: Sequence[str], texts: ClassTexts) -> tuple[dict[int, int], bool]:
    """The class index of each column's place that covers the most classes, and whether the headings number them."""
    best, by_number = dict[int, int](), False
    for kind in texts.kinds():
        own = texts.texts(kind)
        for prefix, suffix in _affixes(headings, own):
            index_of = {f"{prefix}{text}{suffix}": index for index, text in enumerate(own)}
            match = {place: index_of[heading] for place, heading in enumerate(headings) if heading in index_of}
            if len({*match.values()}) > len({*best.values()}):
                best, by_number = match, kind == "number"
    folded = [_folded(name) for name in texts.classes.names]
    if len({*best.values()}) < len(folded) == len({*folded}):
        match = {place: folded.index(_folded(heading)) for place, heading in enumerate(headings) if _folded(heading) in folded}
        if len({*match.values()}) > len({*best.values()}):
            best, by_number = match, False
    return best, by_number


def _folded(name: str) -> str:
    """A name without case, blanks, hyphens and underscores, in which headings are often written otherwise."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def _affixes(headings: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str]]:
    """Prefixes and suffixes that headings have around the classes' texts: `class_` in `class_7`, `p(` and `)` in `p(cat)`."""
    affixes = {("", ""): 1}
    for text in sorted(texts, key=len)[-2:]:
        for heading in headings:
            prefix, found, suffix = heading.rpartition(text)
            if found:
                affixes[prefix, suffix] = 1
    return list(affixes)


def _are_numbers(sample: Sample, places: Mapping[int, int]) -> bool:
    """Whether columns can hold probabilities: columns of a ranking, `label1,label2`, hold classes instead."""
    probes = [sample.columns[place][0] for place in places]
    return all(re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?|nan|", probe, re.IGNORECASE) for probe in probes)


def _ranks_numbers(sample: Sample, texts: ClassTexts) -> bool:
    """Whether three or more columns that count, `label1,label2,label3`, begin with different class numbers, as rankings do."""
    places = [place for place, heading in enumerate(sample.headings) if re.search("[0-9]$", heading)]
    firsts = [sample.columns[place][0] for place in places]
    different = len({*firsts}) == len(firsts) > 2 and {*firsts} <= {*texts.texts("number")}
    return different and ranked_places(sample, places)


def _shifted(sample: Sample, texts: ClassTexts, problems: list[Problem]) -> bool:
    """Report columns numbered from 1 where the classes are numbered from 0, or the other way round."""
    groups: dict[str, list[int]] = {}
    for heading in sample.headings:
        if match := re.fullmatch(r"(.*?)([0-9]{1,9})", heading):
            groups.setdefault(match[1], []).append(int(match[2]))
    values = sorted(texts.classes.values.tolist())
    for prefix, numbers in groups.items():
        numbers.sort()
        shift = numbers[0] - values[0]
        if shift and len(values) > 1 and numbers == [value + shift for value in values]:
            text = (
                f"has the columns {prefix}{numbers[0]} to {prefix}{numbers[-1]}, but the classes are numbered {values[0]} to "
                f"{values[-1]}: which is which isn't clear. Number the classes so in the training table "
                "(`data.target_column`), or write the form yourself: `submission.columns=id submission.labels=probabilities`."
            )
            problems.append(Problem("sample_classes", sample.name, text))
            return True
    return False


def ranked_places(sample: Sample, places: Sequence[int]) -> bool:
    """Whether columns are one ranking by their headings: `label1,label2,label3`, or from 0."""
    parts = [re.fullmatch(r"(.*?)[ _-]?([0-9]+)", sample.headings[place]) for place in places]
    if not all(parts):
        return False
    stems = {match[1] for match in parts if match}
    numbers = [int(match[2]) for match in parts if match]
    return len(stems) == 1 and numbers[0] in (0, 1) and all(after == before + 1 for before, after in pairwise(numbers))
