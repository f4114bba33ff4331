"""Says where folds are lopsided, or leave a class without training drawings, and which group is the reason."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped

from inkfold.data.splits import Folds

MOST = 1.5  # times its share of the drawings, which a fold holds out
SHOWN = 5


def describe_folds(
    folds: Folds,
    targets: Int64[np.ndarray, " n"],
    class_names: Sequence[str],
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> list[str]:
    """Describe folds that are more than half again their share, that train on no drawing of a class, or that leave copies out.

    Args:
        folds: What each fold trains on and holds out.
        targets: Class id of each drawing, from 0.
        class_names: Name of each class, by class id.
        groups: Each drawing's named group; None where there are none.

    Returns:
        A sentence for each kind; none where there is nothing to say. Classes with a single drawing aren't described.
    """
    return [
        *_in_both(folds, groups),
        *_large(folds, groups),
        *_without_training(folds, targets, class_names, groups),
        *_purged(folds, class_names),
    ]


def _in_both(folds: Folds, groups: np.ndarray | None) -> list[str]:
    """Describe groups that a fold both trains on and holds out, which only the data's own val/ can do."""
    if groups is None or len(folds) > 1:
        return []
    trained_on, held_out = ({*groups[rows].tolist()} for rows in (folds.trained_on[0], folds.held_out[0]))
    both = sorted(map(str, trained_on & held_out))
    if not both:
        return []
    names = ", ".join(map(repr, both[:SHOWN])) + (", ..." if len(both) > SHOWN else "")
    return [
        f"{len(both):,} groups have drawings both in training and among those held out ({names}): the accuracy is optimistic"
    ]


def _large(folds: Folds, groups: np.ndarray | None) -> list[str]:
    """Describe folds that hold out more than half again their share; a single fold is a holdout, whose share isn't known."""
    n, k = folds.held_out.shape[1], folds.k or len(folds)
    if k == 1:
        return []
    lines = []
    for fold, own in enumerate(folds.held_out):
        count = int(own.sum())
        if count > MOST * n / k and count > n // k + 1:
            cause = "drawings that are copies of each other are most of it"
            if groups is not None:
                name, size = _largest(groups[own])
                cause = f"the group {name!r} alone has {size:,} of them"
            lines.append(f"fold {fold} holds out {count:,} of {n:,} drawings, {count / n:.0%} instead of {1 / k:.0%}: {cause}")
    return _shortened(lines, "Fewer folds (folds.k) or smaller groups would be more even.")


def _without_training(folds: Folds, targets: np.ndarray, class_names: Sequence[str], groups: np.ndarray | None) -> list[str]:
    """Describe classes of which a fold holds drawings out and trains on none."""
    size = len(class_names)
    several = np.bincount(targets, minlength=size) > 1
    lines = []
    for fold, (trained_on, held_out) in enumerate(zip(folds.trained_on, folds.held_out, strict=True)):
        trained, held = (np.bincount(targets[rows], minlength=size) > 0 for rows in (trained_on, held_out))
        for target in np.flatnonzero(held & ~trained & several).tolist():
            own = targets == target
            purged = int((own & ~trained_on & ~held_out).sum())
            cause = "all its drawings stay together"
            if groups is not None:
                name, count = _largest(groups[own & held_out])
                cause = f"the group {name!r} has {count:,} of the {int(own.sum()):,}"
            if purged:
                cause = f"{purged:,} are copies of held-out drawings"
            lines.append(f"fold {fold} trains on no drawing of {class_names[target]!r}: {cause}")
    return _shortened(lines, "The accuracy on such a class says nothing; add drawings of it by others.")


def _purged(folds: Folds, class_names: Sequence[str]) -> list[str]:
    """Say how many copies of held-out drawings were left out of training, and of which classes they weren't."""
    lines, counts = [], folds.purged.tolist()
    if any(counts):
        by_fold = f" ({', '.join(f'{count:,}' for count in counts)} by fold)" if len(counts) > 1 else ""
        lines.append(
            f"{sum(counts):,} times{by_fold} a copy of a held-out drawing was left out of training, as else the fold would be "
            "measured on what it was trained on"
        )
    if folds.look_alike:
        names = ", ".join(repr(class_names[target]) for target in folds.look_alike[:SHOWN])
        names += f" and {len(folds.look_alike) - SHOWN} more" if len(folds.look_alike) > SHOWN else ""
        lines.append(
            f"most drawings of {names} look like copies of each other, as simple shapes do, so only files of equal bytes were "
            "left out of their training"
        )
    return lines


def _largest(groups: np.ndarray) -> tuple[str, int]:
    names, counts = np.unique(groups, return_counts=True)
    return str(names[counts.argmax()]), int(counts.max())


def _shortened(lines: list[str], advice: str) -> list[str]:
    if not lines:
        return []
    more = f"; and {len(lines) - SHOWN} more of the kind" if len(lines) > SHOWN else ""
    return [f"{'; '.join(lines[:SHOWN])}{more}. {advice}"]
