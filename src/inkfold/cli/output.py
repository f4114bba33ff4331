"""What commands print: tables for people, to standard output; warnings to standard error."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from inkfold.evaluation.formatting import p_equation

if TYPE_CHECKING:
    from inkfold.audit.fix import FixTable
    from inkfold.ensemble.model import Ensemble
    from inkfold.export.export import Exported
    from inkfold.export.verify import QuantisationCheck
    from inkfold.pipeline.run import Run
    from inkfold.report.run_comparison import RunComparison
    from inkfold.search.backbones import BackboneScore

SHOWN = 10  # of each kind of finding


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
        _print_vote(files.vote, metrics.get("metric", {}).get("title"))
    if files.curve is not None:
        _print_curve(files.curve, metrics)
    _print_split_groups(metrics.get("groups"))
    _print_split_duplicates(metrics.get("duplicates"))
    skipped = {name: count for name, count in metrics["data"]["skipped"].items() if count}
    if skipped:
        print(f"left out as broken: {', '.join(f'{count} {name}' for name, count in skipped.items())}")
    if (corrections := metrics["data"].get("corrections")) is not None:
        print(f"{corrections_in_words(corrections)}: {corrections['file']}")
    _print_choices(run.manifest.get("backbone", {}), metrics.get("reading"))
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
    rows: list[tuple[str, ...]] = []
    if "out_of_fold" in metrics:
        figures, name = metrics["out_of_fold"], "out of fold" if metrics["split"] == "kfold" else "held out"
        if (nested := figures.get("nested")) is not None:
            own = [""] if "metric" in metrics else []
            rows += [(f"{name}, chosen on others", str(figures["n"]), *own, _share(nested, "accuracy"), *[""] * 4)]
            name = "  as kept (optimistic)"
        rows += [(name, *_figures(figures)), *_without_copies(figures)]
        rows += [(_fold_name(fold, metrics), *_figures(fold)) for fold in metrics["folds"]]
    if "test" in metrics:
        rows += [("test", *_figures(metrics["test"])), *_without_copies(metrics["test"])]
    if rows:
        own = [f"{metrics['metric']['title']} (95 %)"] if "metric" in metrics else []
        print_table("", ("", "drawings", *own, "accuracy (95 %)", "top-5 (95 %)", "macro recall", "nll", "ece"), rows)
        _print_intervals({"held-out drawings": metrics.get("out_of_fold", {}), "test drawings": metrics.get("test", {})})


def _print_decision(metrics: dict[str, Any]) -> None:
    """Print whether a rule other than the most probable class gives the answers, and what it gains."""
    if "metric" in metrics and not metrics["metric"]["greater_is_better"]:
        print(f"{metrics['metric']['title']}: lower is better")
    if (decision := metrics.get("decision")) is None:
        return
    usual, nested = (_with_interval(decision[name]["value"], decision[name]["ci95"]) for name in ("most_probable", "nested"))
    title = metrics["metric"]["title"]
    if decision["used"]:
        print(f"answers: {decision['rule']}, for a better {title}; all predictions and submissions use it")
        print(f"{title} by that rule, fitted on other drawings, {nested}; by the most probable class {usual}")
        print(f"gain of the rule: {_difference(decision)}")
    else:
        print(f"answers: the most probable class, {title} {usual}; a rule fitted on other drawings gives {nested}")


def _print_intervals(parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Print how the intervals of figures were made, by what these are of, where whole groups of drawings were resampled."""
    from inkfold.evaluation.intervals import interval_in_words

    for name, figures in parts.items():
        if words := interval_in_words(figures):
            print(f"intervals of {name}: {words}")


def _fold_name(fold: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Name a fold, with the copies that it left out of training, and its share where that is half as much again as usual."""
    share, usual = fold["n"] / metrics["out_of_fold"]["n"], 1 / len(metrics["folds"])
    name = f"  fold {fold['fold']}" + (f", {fold['purged']} copies left out" if fold.get("purged") else "")
    return name + (f", {share:.0%} of all" if metrics["split"] == "kfold" and share > 1.5 * usual else "")


def corrections_in_words(corrections: dict[str, Any]) -> str:
    """Write what a table of decisions changed: `corrections: 3 dropped, 12 relabelled, 5 kept`."""
    return "corrections: " + ", ".join(f"{corrections[name]} {name}" for name in ("dropped", "relabelled", "kept"))


def _print_places(path: Path, submission_summary: str | None) -> None:
    submission = path / "submission.csv"
    print(f"run: {path}" + (f"\nsubmission: {submission}" if submission.is_file() else ""))
    if submission_summary is not None:
        print(f"submission's form, {submission_summary}")


def _print_choices(backbone: dict[str, Any], reading: dict[str, Any] | None) -> None:
    """Print which backbone was taken, and how pages are read."""
    if backbone.get("name") == "ink-small" and backbone["init_seed"] is None:
        print("backbone: ink-small, which comes with inkfold; `inkfold explore DATA` compares it with others")
    elif backbone:
        print(f"backbone: {backbone['name']}")
    if reading is not None:
        print(reading["reason"])


def _trained(cost: dict[str, Any]) -> str:
    waited = cost.get("waited_for_data_fraction")
    return "" if waited is None else f", {cost['trained']} trained on (waiting for them {waited:.1%} of the time)"


def _print_vote(vote: dict[str, Any], title: str | None) -> None:
    """Print every candidate, by the metric of that title and by accuracy, and which can and can't be told apart."""
    rows, taken = [], vote["taken"]
    if title is not None:
        _print_vote_by_metric(vote, title)
    out_of_fold, test = _compared_with(taken, vote["pairs"]), _compared_with(taken, vote["test_pairs"])
    for candidate in vote["candidates"]:
        name, cells = candidate["name"], [candidate["kind"]]
        cells += [_share(candidate, "accuracy"), out_of_fold[name]] if out_of_fold else []
        cells += [_share(candidate["test"], "accuracy"), test[name]] if test else []
        rows.append((*cells, name))
    if rows:
        names = [name for name, pairs in (("out of fold", "pairs"), ("test", "test_pairs")) if vote[pairs]]
        columns = [text for name in names for text in (f"{name} (95 %)", "compared with the vote taken")]
        print_table("candidates" if title is None else "candidates by accuracy", ("", *columns, "name"), rows)
    else:
        print(f"vote: {taken}")
    _print_gain_of_vote(vote)
    if choice := vote["choice"]:
        print(f"out of fold, each part by the vote that the other parts chose: {_share(choice, 'accuracy')}")
    if nested := vote["test_nested"]:
        print("test, folds within models, then models:")
        print("  " + ", ".join(f"{name} {_share(figures, 'accuracy')}" for name, figures in nested.items()))
        print("  " + "; ".join(f"{pair['first']} and {pair['second']} {_p_value(pair)}" for pair in vote["test_nested_pairs"]))
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
        print(f"{vote['taken']} against the best single member, {name}, {part}{figure}: {_difference(test)}")


def _print_vote_by_metric(vote: dict[str, Any], title: str) -> None:
    """Print every candidate's value of the metric by which the vote was chosen."""
    rows, taken = [], vote["taken"]
    pairs = (("out of fold", "metric_pairs"), ("test", "test_metric_pairs"))
    parts = {name: _compared_with(taken, vote[key]) for name, key in pairs if vote.get(key)}
    for candidate in vote["candidates"]:
        cells = [candidate["kind"]]
        for part, verdicts in parts.items():
            own = (candidate if part == "out of fold" else candidate["test"])["metric"]
            cells += [_with_interval(own["value"], own["ci95"]), verdicts[candidate["name"]]]
        rows.append((*cells, candidate["name"]))
    if parts:
        columns = [text for name in parts for text in (f"{name} (95 %)", "compared with the vote taken")]
        print_table(f"candidates by {title}", ("", *columns, "name"), rows)
    if (choice := vote["choice"]) and "metric" in choice:
        chosen = _with_interval(choice["metric"]["value"], choice["metric"]["ci95"])
        print(f"{title} out of fold, each part by the vote that the other parts chose: {chosen}")


def _compared_with(taken: str, pairs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Say of each candidate whether it can be told from the one that is taken; nothing without any pairs."""
    verdicts = {
        pair["second" if pair["first"] == taken else "first"]: _p_value(pair)
        for pair in pairs
        if taken in (pair["first"], pair["second"])
    }
    return {**verdicts, taken: "taken"} if verdicts else {}


def _p_value(pair: dict[str, Any], key: str = "distinguishable") -> str:
    return p_equation(pair["p_value"]) if pair[key] else "not distinguishable"


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
        print(f"test-time views: {_signed(difference)} out of fold, {_verdict(gain['p_value'], gain['p_value'] <= 0.05)}")
        _print_metric_gain("test-time views", gain, metrics)


def _print_metric_gain(step: str, gain: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Print what a step changed by the run's metric; nothing where that is accuracy, of which another line says it."""
    if (own := gain.get("metric")) is not None:
        print(f"{step}, {metrics['metric']['title']} by the most probable class: {_difference(own)}")


def _print_finetuning(finetuned: dict[str, Any]) -> None:
    frozen, trained = finetuned["frozen_accuracy"], finetuned["accuracy"]
    verdict = _verdict(finetuned["p_value"], finetuned["p_value"] <= 0.05)
    print(
        f"fine-tuning: {frozen:.4f} frozen, {trained:.4f} trained ({_signed(trained - frozen)}, {verdict}), "
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


def _verdict(p_value: float, distinguishable: bool) -> str:
    return f"{p_equation(p_value)}: {'more than chance' if distinguishable else 'not distinguishable from chance'}"


def _without_copies(part: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of the drawings that aren't copies of drawings trained on; none where there are no copies."""
    without = part.get("without_copies")
    return [] if without is None else [("  without copies of drawings trained on", *_figures(without))]


def _figures(part: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(part["n"]),
        *([_with_interval(part["metric"]["value"], part["metric"]["ci95"])] if "metric" in part else []),
        _share(part, "accuracy"),
        _share(part, "top5_accuracy"),
        f"{part['macro_recall']:.3f}",
        f"{part['nll']:.3f}",
        f"{part['ece']:.3f}",
    )


def _difference(part: dict[str, Any]) -> str:
    low, high = part["difference_ci95"]
    verdict = _verdict(part["p_value"], part["distinguishable"])
    resampled = f", by {part['groups_resampled']:,} groups" if "groups_resampled" in part else ""
    return f"{_signed(part['difference'])} ({_signed(low)} to {_signed(high)}), {verdict}{resampled}"


def _signed(difference: float, digits: int = 4) -> str:
    """Write a difference with its sign, which what rounds to zero doesn't have."""
    text = f"{difference:+.{digits}f}"
    return text if float(text) else text[1:]


def _share(part: dict[str, Any], name: str) -> str:
    return _with_interval(part[name], part[f"{name}_ci95"])


def _with_interval(value: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{value:.3f} ({low:.3f}{' to ' if low < 0 else '-'}{high:.3f})"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table.

    Args:
        title: Stands above the table, whose first and last columns are then aligned to the left; empty for none.
        columns: The heading of each column, from the left; an empty one leaves the heading blank.
        rows: The cells of each row, one per column.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if i in (0, len(columns) - 1) and title != "" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # names of runs and classes are no markup
    Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False).print(table)


def print_backbones(rows: Sequence["BackboneScore"]) -> None:
    """Print backbones, the most accurate first, and whether they can be told from the best."""
    columns = (
        "out-of-fold accuracy (95 %)",
        "from the best",
        "images/s",
        "parameters",
        "weights",
        "px",
        "sketch top-1",
        "backbone",
    )
    cells = [
        (
            _share(row.as_json(), "accuracy"),
            "" if row is rows[0] else _p_value({"p_value": row.p_value, "distinguishable": row.p_value <= 0.05}),
            f"{row.images_per_s:.0f}" if row.images_per_s else "",
            f"{row.parameters / 1e6:.1f} M",
            f"{row.weights_bytes / 2**20:.0f} MiB",
            str(row.image_size),
            f"{row.imagenet_sketch_top1:.1f} %" if row.imagenet_sketch_top1 else "",
            row.name,
        )
        for row in rows
    ]
    print_table("", columns, cells)
    if rows and rows[0].groups is not None:
        print(f"intervals and p-values resample {rows[0].groups:,} groups of drawings that belong together")
    for row in rows:
        if row.learnt:
            print(f"the weights of {row.name} were trained on {row.learnt:,} of these drawings; all rows are about {row.n:,}")


def print_audit(audit: dict[str, Any], path: Path) -> None:
    """Print an audit: counts of each finding, its first examples, what splitting duplicates apart changes, what to do next."""
    from inkfold.data.duplicate_groups import KINDS, counts_in_words
    from inkfold.pipeline.manifest import AUDIT

    copies, labels = audit["duplicates"], audit["labels"]
    if audit["blank"]:
        print(f"blank drawings: {len(audit['blank'])}")
    for drawing in audit["blank"][:SHOWN]:
        print(f"  {drawing['part']} {drawing['image_path']} ({drawing['class_name'] or 'no label'})")
    print(f"duplicates: {counts_in_words(copies['counts'])}")
    for group in copies["groups"][:SHOWN]:
        names = ", ".join(
            f"{member['part']} {member['image_path']} ({member['class_name'] or 'no label'})" for member in group["members"][:4]
        )
        print(f"  {KINDS[group['kind']]}: {names}: {group['pairs'][0]['transform']}")
    _print_split_duplicates(copies["accuracy"])
    if labels is not None:
        _print_labels(labels)
    cost = audit["cost"]
    print(f"{cost['forwards']} forwards, {cost['forwards_cached']} from the bank; {cost['seconds']['total']:.1f} s")
    print(f"all of it: {path / AUDIT}")
    for step in audit["next"]:
        print(f"next: {step}")


def _print_labels(labels: dict[str, Any]) -> None:
    from inkfold.audit.wording import ceiling_sentence, confusions_sentence, doubts_sentence, models_sentence

    print(models_sentence(labels))
    print(f"doubtful labels: {doubts_sentence(labels)}")
    for label in labels["doubtful"][:SHOWN]:
        suggestion = f"rather {label['suggested']!r} ({label['suggested_probability']:.2f})"
        print(f"  {label['image_path']}: {label['given']!r}, {suggestion}")
    print(f"inseparable classes: {confusions_sentence(labels)}")
    for pair in labels["confused"][:SHOWN]:
        between = f"{_share(pair, 'accuracy')} right between the two, of {pair['n']}, by {pair['best_model']}"
        print(f"  {pair['first']!r} and {pair['second']!r}: {between}")
    print(f"bound on accuracy: {ceiling_sentence(labels)}")


def print_fix_table(table: "FixTable", file: TextIO) -> None:
    """Print what a table of decisions holds, how it is filled in, and the command that trains with it."""
    from inkfold.data.corrections import INSTRUCTIONS

    print(
        f"decisions: {table.path}: {table.open} to make, {table.new} of them new; {table.decided} made before are kept",
        file=file,
    )
    print(f"  {INSTRUCTIONS}", file=file)
    if not table.open + table.decided:
        return
    corrections = shlex.quote(f"data.corrections={table.path.absolute()}")
    print(f"  then: inkfold train {shlex.quote(str(table.recipe))} {corrections} out=NEW", file=file)


def _print_split_groups(effect: dict[str, Any] | None) -> None:
    """Print which groups stay in one fold, and how optimistic folds would be that split them; None where there are none."""
    if effect is None:
        return
    kept = f"groups: each of {effect['groups']:,} stays in one fold, by `{effect['key']}`"
    kept += ", which names suggest (`folds.group_pattern=none` declines)" if effect["proposed"] else ""
    print(
        kept
        if "parted" not in effect
        else f"{kept}; accuracy {_beside_parted(effect, 'accuracy')} with folds that split them: {_difference(effect)}"
    )


def _print_split_duplicates(effect: dict[str, Any] | None) -> None:
    """Print how optimistic folds would be that split duplicates apart; None where there are none."""
    if effect is not None:
        accuracy, alone = (_beside_parted(effect, name) for name in ("accuracy", "accuracy_of_copies"))
        print(
            f"duplicates stay in one fold; accuracy {accuracy} with folds that split them apart: {_difference(effect)}; "
            f"on the {effect['drawings']} duplicates {alone}"
        )


def _beside_parted(effect: dict[str, Any], name: str) -> str:
    return f"{effect['grouped'][name]:.4f}, and {effect['parted'][name]:.4f}"


def print_search(summary: dict[str, Any], out: str) -> None:
    """Print what `search.study.tune` gained, on the drawings that it used and on those set aside."""
    tried, aside = summary["cross_validated"], summary["set_aside"]
    judged = [_share(aside[name], "accuracy") for name in ("as_it_was", "best")]
    rows = [
        ("cross-validated, searched on", str(tried["n"]), f"{tried['as_it_was']:.3f}", f"{tried['best']:.3f} (optimistic)"),
        ("set aside, never searched on", str(aside["n"]), *judged),
    ]
    title, own = summary.get("metric", {}).get("title", "accuracy"), aside.get("metric")
    if own is not None:
        by_metric = [_with_interval(own[name]["value"], own[name]["ci95"]) for name in ("as_it_was", "best")]
        rows[1:] = [(rows[1][0], str(aside["n"]), *by_metric), ("  their accuracy", str(aside["n"]), *judged)]
    print_table("", (f"{title} (95 %)", "drawings", "the recipe as it was", "best trial"), rows)
    _print_intervals({"drawings set aside": aside["as_it_was"]})
    if own is not None:
        lower = "" if summary["metric"]["greater_is_better"] else ", lower is better"
        print(f"change of {title}{lower}, on drawings set aside: {_difference(own)}")
    print(f"gain {'in accuracy ' if own else ''}on drawings set aside: {_difference(aside)}")
    if (seen := summary["learnt_by_backbone"]) is not None:
        share = f"{seen['drawings']:,} of these {seen['of']:,} drawings"
        print(f"the weights of a backbone were trained on {share}: all accuracies are optimistic")
    counts = summary["trials"]
    print(f"{counts['complete']} trials, {counts['given_up']} given up early")
    values = ", ".join(f"{key}={value}" for key, value in summary["best"].items())
    print(f"best values: {values or 'the recipe as it was'}")
    print(f"study: {out}")
    if summary["recommended"] == "best":
        print(f"recipe: {out}/best.yaml")
    elif values:
        print("keep your recipe: the best trial is not distinguishably better on the drawings set aside")
        print(f"the best trial's recipe: {out}/candidate.yaml")
    else:
        print("keep your recipe: no trial was better")


def print_exported(files: "Sequence[Exported]") -> None:
    """Print how each exported file compares with its run, and what 8-bit numbers cost."""
    for file in files:
        parity = file.parity
        same = f"{round(parity.agreement * parity.drawings)} of {parity.drawings} drawings get the same class"
        print(f"against the run in float32: {same}, largest difference of a probability {parity.largest_difference:.5f}")
        for note in file.notes:
            print(f"warning: {note}", file=sys.stderr)
        if file.about.decision is not None:
            print("answers: the file gives probabilities; `decision` in its description says how one class follows")
        if file.quantisation is not None:
            _print_quantisation(file.quantisation)
        print(f"model: {file.path} ({file.size_bytes / 1e6:.1f} MB, {file.about.precision})")


def _print_quantisation(check: "QuantisationCheck") -> None:
    print(f"8-bit numbers: {check.agreement:.1%} of {check.drawings} drawings that no range was measured on get the same class")
    if check.difference is None:
        print("their loss of accuracy isn't known: there are no drawings of known class that the model wasn't trained on")
        return
    of = "test drawings" if check.of == "test" else "training drawings, each by the fold that has not seen it"
    print(f"accuracy on {check.drawings} {of}: {check.accuracy_float32:.4f} before; change {_difference(check.difference)}")


def print_weaknesses(weaknesses: dict[str, Any], path: Path) -> None:
    """Print what each change of the drawings does to the accuracy, and what to try against the worst."""
    from inkfold.pipeline.manifest import WEAKNESS

    clean = weaknesses["clean"]
    rows = [(_with_interval(clean["accuracy"], clean["ci95"]), "", "", "as they are")]
    for row in weaknesses["rows"]:
        accuracy = _with_interval(row["accuracy"], row["ci95"])
        rows.append((accuracy, _signed(-row["drop"], 3), _p_value(row, "significant"), row["name"]))
    print_table(f"{clean['n']} held-out drawings", ("accuracy (95 %)", "change", "", "drawings"), rows)
    _print_intervals({"drawings as they are": clean})
    worst = [row for row in weaknesses["rows"] if row["command"]]
    if worst:
        print(f"if your drawings look so ({worst[0]['name']}), try:\n  {worst[0]['command']}")
    photographed = min((row["n"] for row in weaknesses["rows"]), default=0)
    if photographed < clean["n"]:
        print(f"photos and small drawings: {photographed} of the drawings, compared with the same ones as they are")
    cost = weaknesses["cost"]
    print(f"{cost['forwards']} forwards, {cost['forwards_cached']} from the bank; all commands: {path / WEAKNESS}")


def print_comparison(comparison: "RunComparison") -> None:
    """Print how every run compares with the best single one, and which can't be compared, with what to do."""
    best, pairs = comparison.best, comparison.against_best()
    print(", ".join(f"{name} {run.path}" for name, run in zip(comparison.names, comparison.runs, strict=True)))
    rows = [
        (
            f"{comparison.names[pair.second]} less {comparison.names[best]}",
            f"{len(pair.drawings)} {pair.part}",
            *([] if comparison.metric.is_accuracy else [_of_metric(pair.by_metric or {})]),
            _difference(dict(pair.figures)),
        )
        for pair in pairs
        if pair.figures is not None
    ]
    if rows:
        own = [] if comparison.metric.is_accuracy else [comparison.metric.title]
        title = f"against the best single run, {comparison.names[best]}"
        print_table(title, ("", "drawings", *own, "difference in accuracy (95 %)"), rows)
    for pair in pairs:
        letters = f"{comparison.names[pair.second]} and {comparison.names[pair.first]}, {pair.part} drawings"
        for note in pair.notes if pair.figures is not None else (f"not comparable. {' '.join(pair.notes)}",):
            print(f"{letters}: {note}")
        if pair.command:
            print(f"  {pair.command}")


def _of_metric(test: Mapping[str, Any]) -> str:
    low, high = test["difference_ci95"]
    return f"{test['difference']:+.4f} ({low:+.4f} to {high:+.4f}), {p_equation(test['p_value'])}"


def print_json(values: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(values, indent=2, ensure_ascii=False))
