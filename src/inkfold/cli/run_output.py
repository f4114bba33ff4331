"""What commands print of a finished run or ensemble: figures, choices, warnings, cost and places."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.cli.figures import difference_of, figure_of, print_intervals, print_table, verdict_of
from inkfold.cli.vote_output import print_vote
from inkfold.evaluation.formatting import signed, with_interval

if TYPE_CHECKING:
    from inkfold.ensemble.model import Ensemble
    from inkfold.pipeline.run import Run


def print_run(run: "Run | Ensemble", *, was_finished: bool = False) -> None:
    """Print a finished run's accuracies, its votes or stages, what it cost, and where it is.

    Args:
        run: A finished run of one model, or an ensemble; its files are read from its directory.
        was_finished: Whether this command found it finished, so that it computed nothing and the cost is an earlier command's.
    """
    metrics, files = run.metrics, run.files
    _print_accuracies(metrics)
    _print_decision(metrics)
    if files.vote is not None:
        print_vote(files.vote, metrics.get("metric", {}).get("title"))
    if files.curve is not None:
        _print_curve(files.curve, metrics)
    _print_propagation(metrics)
    if members := run.manifest.get("transductive", {}).get("members"):
        print(f"label propagation: used by {', '.join(members)} for held-out and test drawings; new drawings go without it")
    _print_prior(metrics.get("prior"))
    print_split_groups(metrics.get("groups"))
    print_split_duplicates(metrics.get("duplicates"))
    skipped = {name: count for name, count in metrics["data"]["skipped"].items() if count}
    if skipped:
        print(f"left out as broken: {', '.join(f'{count} {name}' for name, count in skipped.items())}")
    if (corrections := metrics["data"].get("corrections")) is not None:
        from inkfold.data.corrections import corrections_in_words

        print(f"corrections: {corrections_in_words(corrections)}: {corrections['file']}")
    _print_choices(run.manifest, metrics.get("backbone_choice"), metrics.get("reading"))
    for warning in run.manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if was_finished:
        print("this run was finished before: nothing was computed, and what it cost is what it cost then")
    cost = files.cost
    seconds = ", ".join(f"{stage} {took:.1f}" for stage, took in cost["seconds"].items() if stage != "total")
    peak = cost.get("peak_memory_bytes")  # not known on every platform
    work = f"{cost['forwards']} forwards, {cost['forwards_cached']} from the bank{_trained(cost)}"
    print(f"{work}; {cost['seconds']['total']:.1f} s ({seconds})" + ("" if peak is None else f"; peak {peak / 2**20:.0f} MiB"))
    _print_places(run.path, files.submission_summary)


def _print_accuracies(metrics: dict[str, Any]) -> None:
    """Print the figures of held-out and test drawings, and how their intervals were made."""
    from inkfold.pipeline.run_files import parts_in_words

    rows: list[tuple[str, ...]] = []
    if "out_of_fold" in metrics:
        figures, name = metrics["out_of_fold"], "out of fold" if metrics["split"] == "kfold" else "held out"
        if (nested := figures.get("nested")) is not None:
            own = [""] if "metric" in metrics else []
            rows += [(f"{name}, chosen on others", str(figures["n"]), *own, figure_of(nested, "accuracy"), *[""] * 4)]
            name = "  as kept (optimistic)"
        rows += [(name, *_figures(figures)), *_without_copies(figures)]
        rows += [(_fold_name(fold, metrics), *_figures(fold)) for fold in metrics["folds"]]
    if "test" in metrics:
        rows += [("test", *_figures(metrics["test"])), *_without_copies(metrics["test"])]
    if rows:
        own = [f"{metrics['metric']['title']} (95 %)"] if "metric" in metrics else []
        print_table("", ("", "drawings", *own, "accuracy (95 %)", "top-5 (95 %)", "macro recall", "nll", "ece"), rows)
        if (parts := parts_in_words(metrics)) is not None:
            print(f"out of fold: {parts} were held out; folds.parts=null holds out all")
        print_intervals({"held-out drawings": metrics.get("out_of_fold", {}), "test drawings": metrics.get("test", {})})


def _fold_name(fold: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Name a fold, with the copies that it left out of training, and its share where that is half as much again as usual."""
    share, usual = fold["n"] / metrics["out_of_fold"]["n"], 1 / len(metrics["folds"])
    if (parts := metrics.get("parts")) is not None:
        share, usual = fold["n"] / metrics["data"]["n_train"], 1 / parts["of"]
    name = f"  fold {fold['fold']}" + (f", {fold['purged']} copies left out" if fold.get("purged") else "")
    return name + (f", {share:.0%} of all" if metrics["split"] == "kfold" and share > 1.5 * usual else "")


def _without_copies(part: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of the drawings that aren't copies of drawings trained on; none where there are no copies."""
    without = part.get("without_copies")
    return [] if without is None else [("  without copies of drawings trained on", *_figures(without))]


def _figures(part: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(part["n"]),
        *([with_interval(part["metric"]["value"], part["metric"]["ci95"])] if "metric" in part else []),
        figure_of(part, "accuracy"),
        figure_of(part, "top5_accuracy"),
        f"{part['macro_recall']:.3f}",
        f"{part['nll']:.3f}",
        f"{part['ece']:.3f}",
    )


def _print_decision(metrics: dict[str, Any]) -> None:
    """Print whether a rule other than the most probable class gives the answers, and what it gains."""
    if "metric" in metrics and not metrics["metric"]["greater_is_better"]:
        print(f"{metrics['metric']['title']}: lower is better")
    if (decision := metrics.get("decision")) is None:
        return
    usual, nested = (with_interval(decision[name]["value"], decision[name]["ci95"]) for name in ("most_probable", "nested"))
    title = metrics["metric"]["title"]
    if decision["used"]:
        print(f"answers: {decision['rule']}, for a better {title}; all predictions and submissions use it")
        print(f"{title} by that rule, fitted on other drawings, {nested}; by the most probable class {usual}")
        print(f"gain of the rule: {difference_of(decision)}")
    else:
        print(f"answers: the most probable class, {title} {usual}; a rule fitted on other drawings gives {nested}")


def _print_propagation(metrics: dict[str, Any]) -> None:
    """Print whether the test drawings are predicted together, and what that gains; nothing where it wasn't asked for."""
    if (tried := metrics.get("transductive")) is None:
        return
    if "skipped" in tried:
        print(f"label propagation: not tried: {tried['reason']}")
        return
    title = metrics["metric"]["title"] if "metric" in metrics else "accuracy"
    if not tried["used"]:
        print(f"label propagation: tried on held-out drawings and not used: {title} {difference_of(tried)}")
        return
    nested, chosen = tried["nested"], ""
    if nested["accuracy"] < tried["accuracy_with"]:
        chosen = f"; where other folds decide whether to use it, {figure_of(nested, 'accuracy')}"
    print(f"label propagation: used, as it is better on held-out drawings: {title} {difference_of(tried)}")
    print(
        f"  held-out and test figures are with it; accuracy without it {figure_of(tried, 'accuracy_without')}{chosen}. "
        "Drawings that are predicted later (predict, serve, export) are predicted one by one, without it"
    )


def _print_prior(prior: dict[str, Any] | None) -> None:
    """Print that probabilities are corrected for a class prior; nothing where the recipe names none."""
    if prior is not None:
        print(
            f"class prior: {prior['source']}: probabilities of test and new drawings are corrected for it; "
            "held-out figures are of the classes as in training"
        )


def print_split_groups(effect: dict[str, Any] | None) -> None:
    """Print which groups stay in one fold, and how optimistic folds would be that split them; None where there are none."""
    if effect is None:
        return
    kept = f"groups: each of {effect['groups']:,} stays in one fold, by `{effect['key']}`"
    kept += ", which names suggest (`folds.group_pattern=none` declines)" if effect["proposed"] else ""
    print(
        kept
        if "parted" not in effect
        else f"{kept}; accuracy {_beside_parted(effect, 'accuracy')} with folds that split them: {difference_of(effect)}"
    )


def print_split_duplicates(effect: dict[str, Any] | None) -> None:
    """Print how optimistic folds would be that split duplicates apart; None where there are none."""
    if effect is not None:
        accuracy, alone = (_beside_parted(effect, name) for name in ("accuracy", "accuracy_of_copies"))
        print(
            f"duplicates stay in one fold; accuracy {accuracy} with folds that split them apart: {difference_of(effect)}; "
            f"on the {effect['drawings']} duplicates {alone}"
        )


def _beside_parted(effect: dict[str, Any], name: str) -> str:
    return f"{effect['grouped'][name]:.4f}, and {effect['parted'][name]:.4f}"


def _print_choices(manifest: dict[str, Any], choice: dict[str, Any] | None, reading: dict[str, Any] | None) -> None:
    """Print which backbone was taken, and how pages are read."""
    backbones = [raw for raw in (manifest.get("backbone"), *manifest.get("beside", ())) if raw]
    backbone = backbones[0] if backbones else {}
    titles = [f"{raw['name']}{', all layers' if raw.get('features') == 'layers' else ''}" for raw in backbones]
    if len(titles) > 1:
        print(f"backbones: {'; '.join(titles)}: {len(titles)} under one head")
    elif choice is not None:
        layers = ", the pooled output of every layer beside its last vector" if backbone.get("features") == "layers" else ""
        print(f"{choice['reason']}{layers}")
    elif backbone.get("features") == "layers":
        print(f"backbone: {backbone['name']}, the pooled output of every layer beside its last vector")
    elif backbone.get("name") == "ink-small" and backbone["init_seed"] is None:
        print("backbone: ink-small, which comes with inkfold; `inkfold explore DATA` compares it with others")
    elif backbone:
        print(f"backbone: {backbone['name']}")
    if reading is not None:
        print(reading["reason"])


def _print_places(path: Path, submission_summary: str | None) -> None:
    submission = path / "submission.csv"
    print(f"run: {path}" + (f"\nsubmission: {submission}" if submission.is_file() else ""))
    if submission_summary is not None:
        print(f"submission's form, {submission_summary}")


def _trained(cost: dict[str, Any]) -> str:
    waited = cost.get("waited_for_data_fraction")
    return "" if waited is None else f", {cost['trained']} trained on (waiting for them {waited:.1%} of the time)"


def _print_curve(curve: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Print where each stage ended, if any stage showed more than the drawings as they are."""
    if any(stage["augment"] for stage in curve["stages"]) or len(curve["stages"]) > 1:
        rows = []
        for stage in curve["stages"]:
            points = [point for point in curve["epochs"] if point["stage"] == stage["stage"]]
            if not points:  # a head that is computed has no epochs
                continue
            rows.append(
                (
                    f"{points[0]['epoch']}-{points[-1]['epoch'] + 1}",
                    str(stage["views"]) if stage["augment"] else "",
                    f"{points[-1]['loss']:.3f}",
                    f"{points[-1]['held_out_loss']:.3f}",
                    f"{points[-1]['held_out_accuracy']:.3f}",
                    " + ".join(stage["augment"]) or "drawings as they are",
                )
            )
        print_table("stages", ("epochs", "views", "loss", "held-out loss", "held-out accuracy", "trained on"), rows)
    if (selection := metrics.get("selection")) and (chosen := selection.get("metric")):
        print(
            f"best epochs kept by {metrics['metric']['title']}: theirs of {chosen['value']:.4f} is optimistic by "
            f"{chosen['optimism']:.4f}; on new drawings expect {chosen['nested']:.4f}"
        )
    if selection:
        print(
            f"best epochs kept: their accuracy of {selection['accuracy']:.4f} is optimistic by {selection['optimism']:.4f}; "
            f"on new drawings expect {_nested(selection)}"
        )
    if finetuned := metrics.get("finetune"):
        _print_finetuning(finetuned)
        _print_metric_gain("fine-tuning", finetuned, metrics)
    if gain := metrics.get("tta"):
        difference = gain["accuracy_with"] - gain["accuracy_without"]
        print(f"test-time views: {signed(difference)} out of fold, {verdict_of(gain['p_value'], gain['p_value'] <= 0.05)}")
        _print_metric_gain("test-time views", gain, metrics)


def _print_metric_gain(step: str, gain: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Print what a step changed by the run's metric; nothing where that is accuracy, of which another line says it."""
    if (own := gain.get("metric")) is not None:
        print(f"{step}, {metrics['metric']['title']} by the most probable class: {difference_of(own)}")


def _print_finetuning(finetuned: dict[str, Any]) -> None:
    frozen, trained = finetuned["frozen_accuracy"], finetuned["accuracy"]
    verdict = verdict_of(finetuned["p_value"], finetuned["p_value"] <= 0.05)
    print(
        f"fine-tuning: {frozen:.4f} frozen, {trained:.4f} trained ({signed(trained - frozen)}, {verdict}), "
        "on held-out drawings as they are"
    )
    if way := finetuned.get("interpolation"):
        tried = ", ".join(f"{share:g}: {accuracy:.4f}" for share, accuracy in zip(way["shares"], way["accuracy"], strict=True))
        print(
            f"share of the change in weights kept: {way['taken']:g}, whose accuracy is optimistic by {way['optimism']:.4f}; "
            f"on new drawings expect {_nested(way)}; tried {tried}"
        )


def _nested(choice: dict[str, Any]) -> str:
    """Write the accuracy of what other drawings chose, with its interval where the run has kept it."""
    interval = choice.get("nested_accuracy_ci95")
    nested = f"{choice['nested_accuracy']:.4f}"
    return nested if interval is None else f"{nested} ({interval[0]:.4f}-{interval[1]:.4f})"
