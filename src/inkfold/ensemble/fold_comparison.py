"""Whether out-of-fold predictions of two runs can be compared: by which drawings each run's models were trained on.

An out-of-fold prediction is of a model that was not trained on the drawing. Two runs' figures on the same drawings say which
recipe is better only where their models had the same chance: on a drawing, neither may have been trained on another drawing of
its group (by the same person, after the same photo, a copy) unless both were, and both must have been trained on about the same
share of the drawings. That folds were merely dealt otherwise, by another seed, leaves the comparison fair; the test is less
sensitive, since the difference holds the luck of the folds, too.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.ensemble.matching import match_drawings
from inkfold.errors import Problem
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run_files import RECIPE, RunFiles, flat_recipe

MOST_UNFAIR = 0.1  # of the common drawings: as many can be left out of a test, and the rest still stands for all
# Of all drawings: a smaller difference in training drawings changes an accuracy by less than chance does.
SHARE_TOLERANCE = 0.02
SAME_FOLDS = "Train both on the same data with the same folds.* and seed, or rely on test drawings that both predicted."
GROUPING = ("folds.group_column", "folds.group_pattern", "folds.group_duplicates")
Verdict = Literal["same", "comparable", "not comparable"]


@final
@dataclass(frozen=True, slots=True)
class HeldOut:
    """How a run held out the drawings that it is evaluated on.

    Attributes:
        name: What messages call the run.
        predictions: Its out-of-fold predictions.
        train_share: Mean share of the drawings that a fold's models were trained on, 0 to 1; None where it isn't known.
        settings: The recipe's keys `folds.*`, `data.*` and `seed`, as they are typed on the command line.
        recipe: The recipe that trains it again; None for a vote over other runs, and for predictions from elsewhere.
        data: Fingerprint of the data it was trained on; equal for the same drawings, classes and groups.
        groups_by: What its groups come from, such as `folds.group_column=artist`; None where none are known to be kept
            together.
    """

    name: str
    predictions: Predictions
    train_share: float | None = None
    settings: Mapping[str, str] | None = None
    recipe: str | None = None
    data: str | None = None
    groups_by: str | None = None


@final
@dataclass(frozen=True, slots=True)
class FoldComparison:
    """Whether two runs' out-of-fold predictions can be compared.

    Attributes:
        verdict: `same` where the same drawings were held out together, `comparable` where folds were dealt otherwise, and
            `not comparable` where one run's models had an advantage.
        reasons: What makes them not comparable, or weakens the test, as sentences; empty where the folds are the same.
        unfair: Which common drawings only one of the runs had an advantage on: its model was trained on others of their group.
        stricter: 0 or 1, the run whose folds the other one should be trained on; None where neither is stricter.
        command: How to train the other run on these folds; empty where no command does it.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    unfair: Bool[np.ndarray, " common"]
    stricter: int | None = None
    command: str = ""


def held_out_by(run: RunFiles) -> HeldOut | None:
    """Read from a finished run how it held out drawings; None without out-of-fold predictions.

    Args:
        run: Files of a run or an ensemble. An ensemble's folds are those of its first member that is a run.
    """
    if run.out_of_fold is None:
        return None
    shares = [fold["n_train"] / (fold["n_train"] + fold["n"]) for fold in run.metrics.get("folds", ()) if fold["n"]]
    flat = flat_recipe(run.model_recipes[0])
    settings = {key: value for key, value in flat.items() if key == "seed" or key.startswith(("folds.", "data."))}
    trained = not isinstance(run.recipe.get("members"), list) or isinstance(run.recipe.get("folds"), Mapping)
    return HeldOut(
        name=run.name,
        predictions=run.out_of_fold,
        train_share=float(np.mean(shares)) if shares else None,
        settings=settings,
        recipe=str(run.path / RECIPE) if trained else None,
        data=None if run.vote is not None else run.manifest.get("data_fingerprint"),
        groups_by=run.metrics.get("groups", {}).get("key") or _named_groups(settings),
    )


def compare_folds(
    first: HeldOut, second: HeldOut, drawings: tuple[Int64[np.ndarray, " first"], Int64[np.ndarray, " second"]]
) -> FoldComparison:
    """Find out whether two runs' out-of-fold predictions can be compared, and what to do where they can't.

    Args:
        first: The run that the other is compared with; its folds are proposed where neither run is stricter.
        second: The run that is compared with the first; its folds are proposed where it is the stricter one.
        drawings: The number of each row's drawing in both predictions, as `match_drawings` gives them.

    Returns:
        The verdict; `unfair` has the order of `np.intersect1d` of the drawings.
    """
    common, *rows = np.intersect1d(*drawings, return_indices=True)
    if not len(common):
        return FoldComparison("not comparable", (f"{first.name} and {second.name} held out no drawing in common.",), common > 0)
    folds = [_folds(run)[own] for run, own in zip((first, second), rows, strict=True)]
    pairs = {*zip(*(fold.tolist() for fold in folds), strict=True)}
    if len(pairs) <= min(len({*fold.tolist()}) for fold in folds):
        return FoldComparison("same", (), np.zeros(len(common), bool))
    advantages = _advantages((first, second), drawings, rows)
    reasons = [*_group_reasons((first, second), advantages), *_share_reasons(first, second)]
    verdict: Verdict = "not comparable" if reasons else "comparable"
    if not reasons:
        reasons = [f"{_dealt_otherwise(first, second)} The test is fair, but less sensitive than on the same folds."]
        if left_out := int((advantages[0] | advantages[1]).sum()):
            reasons.append(f"Left out: {left_out:,} drawings of whose group only one of them was trained on others.")
    stricter = _stricter((first, second), advantages)
    leader, other = (second, first) if stricter == 1 else (first, second)
    return FoldComparison(verdict, tuple(reasons), advantages[0] | advantages[1], stricter, command_for_folds(leader, other))


def warn_of_folds(runs: Sequence[HeldOut]) -> list[Problem]:
    """Warn of each member of a vote whose out-of-fold predictions can't be compared with those of a member before it.

    Args:
        runs: The members that are runs, in their order.

    Returns:
        One warning per member, with the reasons and the command that trains one of the two on the folds of the other.
    """
    numbers = match_drawings([run.predictions for run in runs])
    warnings = list[Problem]()
    for j, other in enumerate(runs):
        for i in range(j):
            found = compare_folds(runs[i], other, (numbers[i], numbers[j]))
            if found.verdict == "not comparable":
                text = f"other folds than {runs[i].name}. {' '.join(found.reasons)} A vote that is fitted, or chosen, on these "
                text += "predictions gives the one with the advantage too much weight, and its own figure is optimistic too. "
                remedy = f"Train on the same folds: {found.command}" if found.command else SAME_FOLDS
                warnings.append(Problem("other_folds", other.name, f"{text}{remedy}", "warning"))
                break
    return warnings


def command_for_folds(leader: HeldOut, other: HeldOut) -> str:
    """Write the command that trains a run once more, on another run's folds.

    Args:
        leader: The run whose folds are taken.
        other: The run that is trained again.

    Returns:
        The command; empty where none does it: for a vote over other runs, whose members are trained first, for predictions
        from elsewhere, and where the recipes have the same folds already, so that the data differ.
    """
    if other.recipe is None or leader.settings is None or other.settings is None:
        return ""
    keys = [key for key in leader.settings if key == "seed" or key.startswith("folds.")]
    if leader.data != other.data and leader.groups_by is not None:
        keys += [key for key in leader.settings if key.startswith("data.")]  # groups are read from the data's names or tables
    changed = [f"{key}={leader.settings[key]}" for key in keys if other.settings.get(key) != leader.settings[key]]
    if not changed:
        return ""
    out = f"out={other.recipe.removesuffix(f'/{RECIPE}')}-same-folds"
    return shlex.join(["inkfold", "train", other.recipe, *changed, out])


def _folds(run: HeldOut) -> np.ndarray:
    """Give the fold that held each drawing out; one for all where that isn't known."""
    own = run.predictions
    return np.zeros(len(own.image_paths), np.int64) if own.folds is None else own.folds


def _advantages(
    runs: tuple[HeldOut, HeldOut],
    drawings: tuple[Int64[np.ndarray, " first"], Int64[np.ndarray, " second"]],
    rows: Sequence[Int64[np.ndarray, " common"]],
) -> tuple[Bool[np.ndarray, " common"], Bool[np.ndarray, " common"]]:
    """Find the common drawings of whose group one run's model was trained on others and the other's was not, by run."""
    found = [np.zeros(len(rows[0]), bool), np.zeros(len(rows[0]), bool)]
    if runs[0].data is not None and runs[0].data == runs[1].data and _grouping(runs[0]) == _grouping(runs[1]):
        return found[0], found[1]
    for grouped in (0, 1):
        groups = runs[grouped].predictions.groups
        if groups is None:
            continue
        trained = [_trained_on_group(run, own, drawings[grouped], groups) for run, own in zip(runs, drawings, strict=True)]
        first, second = (own[rows[grouped]] for own in trained)
        found[0] |= first & ~second
        found[1] |= second & ~first
    return found[0], found[1]


def _trained_on_group(run: HeldOut, own: np.ndarray, drawings: np.ndarray, groups: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Find the drawings of whose group the model that predicts them was trained on others.

    That is where a group lies in several folds. What a holdout doesn't hold out it was trained on.
    """
    fold_of = dict(zip(own.tolist(), _folds(run).tolist(), strict=True))
    elsewhere = -1 if len({*fold_of.values()}) == 1 else None
    places = [fold_of.get(number, elsewhere) for number in drawings.tolist()]
    several: dict[int, set[int]] = {}
    for group, place in zip(groups.tolist(), places, strict=True):
        if place is not None:
            several.setdefault(group, set()).add(place)
    return np.array([len(several.get(group, ())) > 1 for group in groups.tolist()], bool)


def _group_reasons(
    runs: tuple[HeldOut, HeldOut], advantages: tuple[Bool[np.ndarray, " common"], Bool[np.ndarray, " common"]]
) -> Iterator[str]:
    """Say which run's models were trained on drawings of a held-out drawing's group, where that is of many drawings."""
    for run, other, own in zip(runs, runs[::-1], advantages, strict=True):
        if own.mean() > MOST_UNFAIR:
            yield (
                f"{run.name} parts groups that {other.name} keeps together: for {int(own.sum()):,} of {len(own):,} drawings "
                f"its models were trained on others of the same group, so its accuracy is optimistic beside {other.name}'s."
            )
    if all(run.predictions.groups is None for run in runs):
        for run, other in (runs, runs[::-1]):
            if run.groups_by is not None and other.groups_by is None and other.settings is not None:
                yield f"{run.name} keeps groups in one fold ({run.groups_by}), and {other.name} doesn't: it may be optimistic."


def _share_reasons(first: HeldOut, second: HeldOut) -> Iterator[str]:
    """Say which run's models were trained on a larger part of the drawings."""
    if first.train_share is not None and second.train_share is not None:
        less, more = sorted((first, second), key=lambda run: run.train_share or 0.0)
        assert less.train_share is not None
        assert more.train_share is not None
        if more.train_share - less.train_share > SHARE_TOLERANCE:
            yield (
                f"{more.name}'s models were trained on {more.train_share:.0%} of its drawings, {less.name}'s on "
                f"{less.train_share:.0%}: more drawings alone raise the accuracy."
            )


def _dealt_otherwise(first: HeldOut, second: HeldOut) -> str:
    """Say that folds differ, and by which keys."""
    ours, theirs = first.settings or {}, second.settings or {}
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if key == "seed" or key.startswith("folds.")]
    differ = [key for key in keys if ours.get(key) != theirs.get(key)]
    by = ", ".join(f"{key} {ours.get(key, 'none')} and {theirs.get(key, 'none')}" for key in differ)
    return f"{first.name} and {second.name} dealt the drawings to other folds ({by or 'their data differ'})."


def _stricter(
    runs: tuple[HeldOut, HeldOut], advantages: tuple[Bool[np.ndarray, " common"], Bool[np.ndarray, " common"]]
) -> int | None:
    """Choose the run whose models had less of an advantage by groups; None where neither had."""
    counts = [int(own.sum()) for own in advantages]
    if counts[0] != counts[1]:
        return int(counts[1] < counts[0])
    named = [run.groups_by is not None for run in runs]
    return None if named[0] == named[1] else int(named[1])


def _named_groups(settings: Mapping[str, str]) -> str | None:
    """Name the key by which a recipe groups drawings; None if it doesn't."""
    values = {key: settings.get(key, "null") for key in GROUPING[:2]}
    return next((f"{key}={value}" for key, value in values.items() if value not in ("null", "none", "auto")), None)


def _grouping(run: HeldOut) -> tuple[str | None, ...]:
    return tuple((run.settings or {}).get(key) for key in GROUPING)
