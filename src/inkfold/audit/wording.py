"""What an audit found of labels, in sentences: the console and the report use the same ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from inkfold.evaluation.formatting import counted


def doubts_sentence(labels: Mapping[str, Any]) -> str:
    """Say how many labels are doubted, how sure that is, and what the list can't say.

    Args:
        labels: The section `labels` of `audit.json`.
    """
    doubts, count, asked = labels["doubts"], len(labels["doubtful"]), _asked(labels)
    about = f"about {_percent(labels['estimated_wrong_fraction'])} of all labels are estimated to be wrong"
    if not count:
        return (
            f"No label is doubted by all of {asked} so clearly that most of a list would be wrong, so none is listed. "
            f"That doesn't say that all are right: {about}."
        )
    low, high = doubts["expected_wrong_ci95"]
    return (
        f"{count:,} of {labels['n']:,} labels are doubted by all of {asked}. About {_percent(doubts['expected_wrong'])} of "
        f"these ({_percent(low)} to {_percent(high)}) are expected to be wrong, if wrong labels go to similar classes; of such "
        f"wrong labels the list holds about {_percent(doubts['found_fraction'])}, and {about}."
    )


def confusions_sentence(labels: Mapping[str, Any]) -> str:
    """Say how many pairs of classes no model separates, and by which models this was tried.

    Args:
        labels: The section `labels` of `audit.json`.
    """
    pairs = labels["confused"]
    if not pairs:
        return f"Every pair of classes is separated better than by a coin by one at least of {_asked(labels)}."
    highest = max(pair["could_be"] for pair in pairs)
    return (
        f"{counted(len(pairs), 'pair')} of classes {'is' if len(pairs) == 1 else 'are'} not separable by anything tried: by "
        f"none of {_asked(labels)}, nor by all of them pooled. Another model may separate them: with so few drawings an "
        f"accuracy between the two of up to {_percent(highest)} can't be excluded."
    )


def ceiling_sentence(labels: Mapping[str, Any]) -> str:
    """State the highest accuracy as a bound, with its premise.

    Args:
        labels: The section `labels` of `audit.json`.
    """
    ceiling = labels["ceiling"]
    if not ceiling["lost_to_conflicts"] and not labels["confused"]:
        return "No bound on accuracy was found: there are no copies with different labels, and no inseparable pairs of classes."
    return f"Accuracy is bounded by {_percent(ceiling['accuracy'])} under this premise: {ceiling['premise']}."


def premise(conflicts: int, pairs: int) -> str:
    """Write the premise of the bound on accuracy.

    Args:
        conflicts: Number of drawings whose label differs from that of most of their copies.
        pairs: Number of pairs of classes that no model separates.
    """
    parts = ["test labels have the same errors as these"]
    if conflicts:
        parts.insert(0, "of copies with different labels only the most frequent label is right")
    if pairs:
        text = "no model, of those not tried either, separates the pairs that none of these does"
        parts.insert(0, f"{text}, so that the more frequent class is always predicted")
    return "; ".join(parts)


def models_sentence(labels: Mapping[str, Any]) -> str:
    """Name the models that were asked, with their accuracies, those that were too weak, and why others weren't asked.

    Args:
        labels: The section `labels` of `audit.json`.
    """
    named = [f"{model['name']} ({model['accuracy']:.3f})" for model in labels["models"] if model["asked"]]
    weak = [f"{model['name']} ({model['accuracy']:.3f})" for model in labels["models"] if not model["asked"]]
    sentences = [f"Models asked, each out of fold, with their accuracy: {', '.join(named)}."]
    sentences += [f"Too weak to be asked: {', '.join(weak)}."] if weak else []
    sentences += [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in labels["notes"]]
    return " ".join(sentences)


def _asked(labels: Mapping[str, Any]) -> str:
    asked: Sequence[Mapping[str, Any]] = [model for model in labels["models"] if model["asked"]]
    return counted(len(asked), "model")


def _percent(share: float) -> str:
    """Write a share in per cent, with a decimal where it is small or close to all."""
    whole = 0.1 <= share <= 0.9 or share == 0 or share >= 0.9995
    return f"{share:.0%}" if whole else f"{share:.1%}"
