"""What commands print: tables for people, to standard output; warnings to standard error."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from inkfold.ensemble.model import Ensemble
    from inkfold.export.export import Exported
    from inkfold.export.verify import QuantisationCheck
    from inkfold.pipeline.run import Run
    from inkfold.search.backbones import BackboneScore

SHOWN = 10  # of each kind of finding


def print_run(run: "Run | Ensemble", *, was_finished: bool = False) -> None:
    """Print a finished run's accuracies, its votes or stages, what it cost, and where it is.

    Args:
        run: A finished run of one model, or an ensemble; its files are read from its directory.
        was_finished: Whether this command found it finished, so that it computed nothing and the cost is an earlier command's.
    """
    metrics, files, rows = run.metrics, run.files, []
    if "out_of_fold" in metrics:
        rows += [("out of fold" if metrics["split"] == "kfold" else "held out", *_figures(metrics["out_of_fold"]))]
        rows += [(f"  fold {fold['fold']}", *_figures(fold)) for fold in metrics["folds"]]
    rows += [("test", *_figures(metrics["test"]))] if "test" in metrics else []
    if rows:
        own = [f"{metrics['metric']['title']} (95 %)"] if "metric" in metrics else []
        print_table("", ("", "drawings", *own, "accuracy (95 %)", "top-5 (95 %)", "macro recall", "nll", "ece"), rows)
        _print_intervals({"held-out drawings": metrics.get("out_of_fold", {}), "test drawings": metrics.get("test", {})})
    _print_decision(metrics)
    if files.vote is not None:
        _print_vote(files.vote, metrics.get("metric", {}).get("title"))
    if files.curve is not None:
        _print_curve(files.curve, metrics)
    _print_split_duplicates(metrics.get("duplicates"))
    skipped = {name: count for name, count in metrics["data"]["skipped"].items() if count}
    if skipped:
        print(f"left out as broken: {', '.join(f'{count} {name}' for name, count in skipped.items())}")
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
    return f"p = {pair['p_value']:.2g}" if pair[key] else "not distinguishable"


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
            f"on new drawings expect {selection['nested_accuracy']:.4f}"
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
            f"tried {tried}"
        )


def _verdict(p_value: float, distinguishable: bool) -> str:
    return f"p = {p_value:.3g}: {'more than chance' if distinguishable else 'not distinguishable from chance'}"


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
    return f"{value:.3f} ({low:.3f}-{high:.3f})"


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
    print(f"all of it: {path / AUDIT}")
    for step in audit["next"]:
        print(f"next: {step}")


def _print_labels(labels: dict[str, Any]) -> None:
    wrong = labels["estimated_wrong_fraction"]
    print(f"doubtful labels: {len(labels['doubtful'])} of {labels['n']}; wrong are at most {wrong:.1%}")
    for label in labels["doubtful"][:SHOWN]:
        suggestion = f"rather {label['suggested']!r} ({label['suggested_probability']:.2f})"
        print(f"  {label['image_path']}: {label['given']!r}, {suggestion}")
    print(f"classes that can't be told apart: {len(labels['confused'])} pairs")
    for pair in labels["confused"][:SHOWN]:
        print(f"  {pair['first']!r} and {pair['second']!r}: {_share(pair, 'accuracy')} right between the two, of {pair['n']}")
    print(f"highest accuracy to expect: {labels['ceiling']['accuracy']:.3f}, if {labels['ceiling']['assumption']}")


def _print_split_duplicates(effect: dict[str, Any] | None) -> None:
    """Print how optimistic folds would be that split duplicates apart; None where there are none."""
    if effect is not None:
        alone = f"on the {effect['drawings']} duplicates {_instead(effect, 'accuracy_of_copies')}"
        print(f"folds that split duplicates apart would give {_instead(effect, 'accuracy')}: {_difference(effect)}; {alone}")


def _instead(effect: dict[str, Any], name: str) -> str:
    return f"{effect['parted'][name]:.4f} instead of {effect['grouped'][name]:.4f}"


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
    print("best values: " + (", ".join(f"{key}={value}" for key, value in summary["best"].items()) or "the recipe as it was"))
    print(f"study: {out}\nrecipe: {out}/best.yaml")


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


def print_json(values: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(values, indent=2, ensure_ascii=False))
