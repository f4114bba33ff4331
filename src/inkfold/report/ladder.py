"""The table of accuracies on a run's page: the steps of one model, or the members and votes of an ensemble."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inkfold.evaluation.intervals import wilson_interval
from inkfold.pipeline.run_files import RunFiles, gain_of_vote, headline
from inkfold.report.html import common_scale, p_equation

ABOUT_STEPS = "What each step gained."
ABOUT_VOTES = "The members by themselves, and every voting method."


def ladder_view(run: RunFiles) -> dict[str, Any]:
    """Gather the accuracies of a model's steps, or of an ensemble's members and votes, with a scale for all of them."""
    rows = _steps(run) if run.vote is None else _candidates(run)
    intervals = [row[name] for row in rows for name in ("ci95", "test_ci95") if row[name] is not None]
    intervals += [(dot, dot) for row in rows for dot in row["dots"]]
    gain = "gain" if run.vote is None else "against the chosen vote"
    about = ABOUT_STEPS if run.vote is None else ABOUT_VOTES
    about += " Accuracies, also where another metric decides." if "metric" in run.metrics else ""
    return {
        "title": "Steps" if run.vote is None else "Votes",
        "rows": rows if any(row["accuracy"] is not None or row["test"] is not None for row in rows) else [],
        "scale": common_scale(intervals),
        "part": evaluated_name(run),
        "test": any(row["test"] is not None for row in rows),
        "first_column": "step" if run.vote is None else "member or vote",
        "about": f"{about} {_majority_class_baseline(run)}",
        "gain": gain if any(row["gain"] for row in rows) else "",
        "choice": _nested_choice(run),
    }


def evaluated_name(run: RunFiles) -> str:
    """Name the drawings that a run is evaluated on, such as `out of fold`; empty where no true classes are known."""
    names = {"out_of_fold": run.held_out_name, "test": "test", None: ""}
    return names[run.evaluated_part]


def _nested_choice(run: RunFiles) -> str:
    """State the gain over the best member, and the accuracy of choosing on other drawings: that of the vote is optimistic."""
    if run.vote is None:
        return ""
    texts = []
    if (gain := gain_of_vote(run.vote)) is not None:
        name, part, test = gain
        verdict = p_equation(test["p_value"]) if test["distinguishable"] else "not distinguishable"
        low, high = (f"{100 * bound:+.1f}" for bound in test["difference_ci95"])
        points = f"{100 * test['difference']:+.1f} points ({low} to {high})"
        texts.append(f"Against the best single member, {name}, {part}: {points}, {verdict}.")
    return " ".join([*texts, *_choice_on_other_drawings(run.vote)])


def _choice_on_other_drawings(vote: Mapping[str, Any]) -> Iterator[str]:
    if not vote["choice"]:
        return
    choice = vote["choice"]
    low, high = choice["accuracy_ci95"]
    yield (
        "The vote was chosen among these on the same drawings. With each part predicted by the vote that the other parts "
        f"choose: {100 * choice['accuracy']:.1f} % ({100 * low:.1f}–{100 * high:.1f})."
    )


def _row(label: str, figures: Mapping[str, Any] | None, test: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"kind": "step", "note": "", "gain": "", "dots": ()}
    held_out, tested = figures or {}, test or {}
    return {
        **empty,
        "label": label,
        "accuracy": held_out.get("accuracy"),
        "ci95": held_out.get("accuracy_ci95"),
        "test": tested.get("accuracy"),
        "test_ci95": tested.get("accuracy_ci95"),
        **more,
    }


def _steps(run: RunFiles) -> list[dict[str, Any]]:
    metrics, rows = run.metrics, []
    if "out_of_fold" not in metrics:
        return [_row("this run", None, metrics.get("test"), kind="main")]
    n = metrics["out_of_fold"]["n"]

    def figures(part: Mapping[str, Any], name: str) -> dict[str, Any]:
        accuracy = part[name]  # runs of before 2026-12 don't have its interval
        return {"accuracy": accuracy, "accuracy_ci95": part.get(f"{name}_ci95") or wilson_interval(round(accuracy * n), n)}

    def gain(before: float, after: float, p_value: float) -> str:
        return f"{100 * (after - before):+.1f} points, {p_equation(p_value)}"

    if tuned := metrics.get("finetune"):
        frozen, accuracy = tuned["frozen_accuracy"], tuned["accuracy"]
        rows.append(_row("head on frozen features", figures(tuned, "frozen_accuracy")))
        rows.append(_row("fine-tuned backbone", figures(tuned, "accuracy"), gain=gain(frozen, accuracy, tuned["p_value"])))
    if tta := metrics.get("tta"):
        before, after = tta["accuracy_without"], tta["accuracy_with"]
        if not tuned:
            rows.append(_row("unchanged drawings", figures(tta, "accuracy_without")))
        note = f"{len(tta['views'])} views"
        rows.append(
            _row(
                "mean over test-time views", figures(tta, "accuracy_with"), note=note, gain=gain(before, after, tta["p_value"])
            )
        )
    rows += _propagation_steps(metrics.get("transductive", {}), rows)
    if len(metrics["folds"]) > 1:
        folds = [fold["accuracy"] for fold in metrics["folds"]]
        rows.append(_row("its folds", None, kind="part", dots=folds, note=f"{100 * min(folds):.1f}–{100 * max(folds):.1f} %"))
    if (kept := metrics["out_of_fold"]) is not headline(kept):
        rows.append(_row("this run, epochs as kept", kept, note="optimistic"))
    rows.append(_row("this run", headline(kept), metrics.get("test"), kind="main"))
    return rows


def _propagation_steps(tried: Mapping[str, Any], before: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Give the steps without and with label propagation, where it is used; the first one only if it is no earlier step."""
    if not tried.get("used"):
        return
    without, together = (
        {"accuracy": tried[f"accuracy_{name}"], "accuracy_ci95": tried[f"accuracy_{name}_ci95"]} for name in ("without", "with")
    )
    if not before:
        yield _row("drawings one by one", without)
    points = f"{100 * (together['accuracy'] - without['accuracy']):+.1f} points"
    gain = points if "name" in tried else f"{points}, {p_equation(tried['p_value'])}"  # which is of another metric's else
    yield _row("test drawings together", together, note="label propagation", gain=gain)


def _candidates(run: RunFiles) -> list[dict[str, Any]]:
    assert run.vote is not None
    chosen, pairs = run.vote["taken"], run.vote["pairs"] or run.vote["test_pairs"]
    pair_with = {
        pair["second"] if pair["first"] == chosen else pair["first"]: pair
        for pair in pairs
        if chosen in (pair["first"], pair["second"])
    }
    rows = []
    for candidate in run.vote["candidates"]:
        name = candidate["name"]
        pair = pair_with.get(name)
        test = "" if pair is None else p_equation(pair["p_value"]) if pair["distinguishable"] else "not distinguishable"
        kind, note = ("taken", "chosen") if name == chosen else ("step", "vote" if candidate["kind"] == "vote" else "")
        figures = candidate if "accuracy" in candidate else None
        rows.append(_row(name, figures, candidate.get("test"), kind=kind, note=note, gain=test))
    return rows


def _majority_class_baseline(run: RunFiles) -> str:
    """State the accuracy of always predicting the most frequent class."""
    if run.evaluated_part is None:
        return ""
    counts = [row["n"] for row in run.metrics[run.evaluated_part]["per_class"]]
    return f"Always predicting the most frequent class would be right on {100 * max(counts) / sum(counts):.1f} %."
