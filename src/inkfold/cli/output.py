"""What commands print of audits, searches, comparisons and exported models; `run_output` prints runs."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from inkfold.cli.figures import difference_of, figure_of, p_value_of, print_intervals, print_table
from inkfold.cli.run_output import print_split_duplicates
from inkfold.evaluation.formatting import p_equation, signed, with_interval

if TYPE_CHECKING:
    from inkfold.audit.fix import FixTable
    from inkfold.explain.explanation import Explanation
    from inkfold.export.export import Exported
    from inkfold.export.verify import QuantisationCheck
    from inkfold.report.run_comparison import RunComparison
    from inkfold.search.backbones import BackboneScore

SHOWN = 10  # of each kind of finding
SHOWN_STROKES = 5  # that speak for an answer, and against it


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
            figure_of(row.as_json(), "accuracy"),
            "" if row is rows[0] else p_value_of({"p_value": row.p_value, "distinguishable": row.p_value <= 0.05}),
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


def print_explanation(found: "Explanation") -> None:
    """Print which strokes of a drawing an answer rests on: those that speak most for it, and most against it."""
    against = "" if found.against is None else f", against {found.against} ({found.against_probability:.3f})"
    print(f"{found.class_name}, probability {found.probability:.3f}{against}")
    if not found.strokes:
        print("the page is blank: there is nothing that the answer rests on")
        return
    speak_for = [one for one in found.strokes if one.effect > 0][:SHOWN_STROKES]
    speak_against = [one for one in found.strokes[::-1] if one.effect < 0][:SHOWN_STROKES]
    size_px = len(found.square)
    cells = [
        (f"{one.effect:+.2f}", f"{one.ink_fraction:.0%}", one.where(size_px)) for one in [*speak_for, *speak_against[::-1]]
    ]
    print_table("", ("effect (nats)", "ink", "where"), cells)
    rest = len(found.strokes) - len(cells)
    print(f"{len(found.strokes)} strokes{f', {rest} of less effect not shown' if rest else ''}")


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
    print_split_duplicates(copies["accuracy"])
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
        between = f"{figure_of(pair, 'accuracy')} right between the two, of {pair['n']}, by {pair['best_model']}"
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


def print_search(summary: dict[str, Any], out: str) -> None:
    """Print what `search.study.tune` gained, on the drawings that it used and on those set aside."""
    tried, aside = summary["cross_validated"], summary["set_aside"]
    judged = [figure_of(aside[name], "accuracy") for name in ("as_it_was", "best")]
    rows = [
        ("cross-validated, searched on", str(tried["n"]), f"{tried['as_it_was']:.3f}", f"{tried['best']:.3f} (optimistic)"),
        ("set aside, never searched on", str(aside["n"]), *judged),
    ]
    title, own = summary.get("metric", {}).get("title", "accuracy"), aside.get("metric")
    if own is not None:
        by_metric = [with_interval(own[name]["value"], own[name]["ci95"]) for name in ("as_it_was", "best")]
        rows[1:] = [(rows[1][0], str(aside["n"]), *by_metric), ("  their accuracy", str(aside["n"]), *judged)]
    print_table("", (f"{title} (95 %)", "drawings", "the recipe as it was", "best trial"), rows)
    print_intervals({"drawings set aside": aside["as_it_was"]})
    if own is not None:
        lower = "" if summary["metric"]["greater_is_better"] else ", lower is better"
        print(f"change of {title}{lower}, on drawings set aside: {difference_of(own)}")
    print(f"gain {'in accuracy ' if own else ''}on drawings set aside: {difference_of(aside)}")
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
    print(f"accuracy on {check.drawings} {of}: {check.accuracy_float32:.4f} before; change {difference_of(check.difference)}")


def print_weaknesses(weaknesses: dict[str, Any], path: Path) -> None:
    """Print what each change of the drawings does to the accuracy, and what to try against the worst."""
    from inkfold.pipeline.manifest import WEAKNESS

    clean = weaknesses["clean"]
    rows = [(with_interval(clean["accuracy"], clean["ci95"]), "", "", "as they are")]
    for row in weaknesses["rows"]:
        accuracy = with_interval(row["accuracy"], row["ci95"])
        rows.append((accuracy, signed(-row["drop"], 3), p_value_of(row, "significant"), row["name"]))
    print_table(f"{clean['n']} held-out drawings", ("accuracy (95 %)", "change", "", "drawings"), rows)
    print_intervals({"drawings as they are": clean})
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
            difference_of(dict(pair.figures)),
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
