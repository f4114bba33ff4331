"""What commands print of an ensemble's vote: every candidate, and which can be told from the one taken."""

from collections.abc import Sequence
from typing import Any

from inkfold.cli.figures import difference_of, figure_of, p_value_of, print_table
from inkfold.evaluation.formatting import with_interval


def print_vote(vote: dict[str, Any], title: str | None) -> None:
    """Print every candidate, by the metric of that title and by accuracy, and which can and can't be told apart."""
    rows, taken = [], vote["taken"]
    if title is not None:
        _print_vote_by_metric(vote, title)
    out_of_fold, test = _compared_with(taken, vote["pairs"]), _compared_with(taken, vote["test_pairs"])
    for candidate in vote["candidates"]:
        name, cells = candidate["name"], [candidate["kind"]]
        cells += [figure_of(candidate, "accuracy"), out_of_fold[name]] if out_of_fold else []
        cells += [figure_of(candidate["test"], "accuracy"), test[name]] if test else []
        rows.append((*cells, name))
    if rows:
        names = [name for name, pairs in (("out of fold", "pairs"), ("test", "test_pairs")) if vote[pairs]]
        columns = [text for name in names for text in (f"{name} (95 %)", "compared with the vote taken")]
        print_table("candidates" if title is None else "candidates by accuracy", ("", *columns, "name"), rows)
    else:
        print(f"vote: {taken}")
    _print_gain_of_vote(vote)
    if choice := vote["choice"]:
        print(f"out of fold, each part by the vote that the other parts chose: {figure_of(choice, 'accuracy')}")
    if nested := vote["test_nested"]:
        print("test, folds within models, then models:")
        print("  " + ", ".join(f"{name} {figure_of(figures, 'accuracy')}" for name, figures in nested.items()))
        print(
            "  " + "; ".join(f"{pair['first']} and {pair['second']} {p_value_of(pair)}" for pair in vote["test_nested_pairs"])
        )
    print(vote["not_estimated"])
    for pair in vote.get("diversity", {}).get("pairs", []):
        correlation = "" if pair["error_correlation"] is None else f", errors correlate by {pair['error_correlation']:.2f}"
        print(f"{pair['first']} and {pair['second']} answer differently on {pair['disagreement']:.1%}{correlation}")


def _print_gain_of_vote(vote: dict[str, Any]) -> None:
    """Print what the chosen vote gains over the best single member."""
    from inkfold.pipeline.run_files import gain_of_vote

    if (gain := gain_of_vote(vote)) is not None:
        name, part, test = gain
        figure = ", in accuracy" if "metric_pairs" in vote or "test_metric_pairs" in vote else ""
        print(f"{vote['taken']} against the best single member, {name}, {part}{figure}: {difference_of(test)}")


def _print_vote_by_metric(vote: dict[str, Any], title: str) -> None:
    """Print every candidate's value of the metric by which the vote was chosen."""
    rows, taken = [], vote["taken"]
    pairs = (("out of fold", "metric_pairs"), ("test", "test_metric_pairs"))
    parts = {name: _compared_with(taken, vote[key]) for name, key in pairs if vote.get(key)}
    for candidate in vote["candidates"]:
        cells = [candidate["kind"]]
        for part, verdicts in parts.items():
            own = (candidate if part == "out of fold" else candidate["test"])["metric"]
            cells += [with_interval(own["value"], own["ci95"]), verdicts[candidate["name"]]]
        rows.append((*cells, candidate["name"]))
    if parts:
        columns = [text for name in parts for text in (f"{name} (95 %)", "compared with the vote taken")]
        print_table(f"candidates by {title}", ("", *columns, "name"), rows)
    if (choice := vote["choice"]) and "metric" in choice:
        chosen = with_interval(choice["metric"]["value"], choice["metric"]["ci95"])
        print(f"{title} out of fold, each part by the vote that the other parts chose: {chosen}")


def _compared_with(taken: str, pairs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Say of each candidate whether it can be told from the one that is taken; nothing without any pairs."""
    verdicts = {
        pair["second" if pair["first"] == taken else "first"]: p_value_of(pair)
        for pair in pairs
        if taken in (pair["first"], pair["second"])
    }
    return {**verdicts, taken: "taken"} if verdicts else {}
