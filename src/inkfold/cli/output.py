"""What commands print: tables for people, to standard output; warnings to standard error."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from inkfold.ensemble.model import Ensemble
    from inkfold.export.export import Exported
    from inkfold.export.verify import QuantisationCheck
    from inkfold.pipeline.run import Run
    from inkfold.search.backbones import BackboneScore

SHOWN = 10


def print_run(run: "Run | Ensemble") -> None:
    """Show accuracies, the votes or the stages, what it cost, and where it is."""
    metrics, rows = run.metrics, []
    if "out_of_fold" in metrics:
        rows += [("out of fold" if metrics["split"] == "kfold" else "held out", *_figures(metrics["out_of_fold"]))]
        rows += [(f"  fold {fold['fold']}", *_figures(fold)) for fold in metrics["folds"]]
    rows += [("test", *_figures(metrics["test"]))] if "test" in metrics else []
    if rows:
        print_table("", ("", "drawings", "accuracy (95 %)", "top-5 (95 %)", "macro recall", "nll", "ece"), rows)
    if (run.path / "vote.json").is_file():
        _print_vote(json.loads((run.path / "vote.json").read_text(encoding="utf-8")))
    if (run.path / "curve.json").is_file():
        _print_curve(run)
    _print_flattery(metrics.get("duplicates"))
    skipped = {name: count for name, count in metrics["data"]["skipped"].items() if count}
    if skipped:
        print(f"left out as broken: {', '.join(f'{count} {name}' for name, count in skipped.items())}")
    backbone = run.manifest.get("backbone", {})
    if backbone.get("name") == "ink-small" and backbone["init_seed"] is None:
        print("backbone: ink-small, which comes with inkfold; `inkfold explore DATA` compares it with others")
    for warning in run.manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    cost = json.loads((run.path / "cost.json").read_text(encoding="utf-8"))
    seconds = ", ".join(f"{stage} {took:.1f}" for stage, took in cost["seconds"].items() if stage != "total")
    peak = cost.get("peak_memory_bytes")  # not known on every platform
    did = f"{cost['forwards']} forwards, {cost['forwards_cached']} from the bank{_trained(cost)}"
    print(f"{did}; {cost['seconds']['total']:.1f} s ({seconds})" + ("" if peak is None else f"; peak {peak / 2**20:.0f} MiB"))
    submission = run.path / "submission.csv"
    print(f"run: {run.path}" + (f"\nsubmission: {submission}" if submission.is_file() else ""))


def _trained(cost: dict[str, Any]) -> str:
    waited = cost.get("waited_for_data_fraction")
    return "" if waited is None else f", {cost['trained']} trained on (waiting for them {waited:.1%} of the time)"


def _print_vote(found: dict[str, Any]) -> None:
    """Show every candidate, and what can and can't be told apart."""
    rows, taken = [], found["taken"]
    out_of_fold, test = _against(found["pairs"], taken), _against(found["test_pairs"], taken)
    for one in found["candidates"]:
        name, cells = one["name"], [one["kind"]]
        cells += [_share(one, "accuracy"), out_of_fold[name]] if out_of_fold else []
        cells += [_share(one["test"], "accuracy"), test[name]] if test else []
        rows.append((*cells, name))
    if rows:
        names = [name for name, pairs in (("out of fold", "pairs"), ("test", "test_pairs")) if found[pairs]]
        columns = [text for name in names for text in (f"{name} (95 %)", "against the vote taken")]
        print_table("candidates", ("", *columns, "name"), rows)
    else:
        print(f"vote: {taken}")
    if choice := found["choice"]:
        print(f"out of fold, each part by the vote that the other parts chose: {_share(choice, 'accuracy')}")
    if nested := found["test_nested"]:
        print("test, folds within models, then models:")
        print("  " + ", ".join(f"{name} {_share(one, 'accuracy')}" for name, one in nested.items()))
        print("  " + "; ".join(f"{one['first']} and {one['second']} {_told(one)}" for one in found["test_nested_pairs"]))
    print(found["not_estimated"])
    for pair in found.get("diversity", {}).get("pairs", []):
        correlation = "" if pair["error_correlation"] is None else f", errors correlate by {pair['error_correlation']:.2f}"
        print(f"{pair['first']} and {pair['second']} answer differently on {pair['disagreement']:.1%}{correlation}")


def _against(pairs: Sequence[dict[str, Any]], taken: str) -> dict[str, str]:
    """Say of each candidate whether it can be told from the one that is taken; nothing without any pairs."""
    told = {
        pair["second" if pair["first"] == taken else "first"]: _told(pair)
        for pair in pairs
        if taken in (pair["first"], pair["second"])
    }
    return {**told, taken: "taken"} if told else {}


def _told(pair: dict[str, Any]) -> str:
    return f"p = {pair['p_value']:.2g}" if pair["distinguishable"] else "not distinguishable"


def _print_curve(run: "Run | Ensemble") -> None:
    """Show where each stage ended, if there is more than drawings as they are."""
    curve = json.loads((run.path / "curve.json").read_text(encoding="utf-8"))
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
        print_table("stages", ("epochs", "views", "loss", "held-out loss", "held-out accuracy", "what is learnt from"), rows)
    if selection := run.metrics.get("selection"):
        print(
            f"best epochs kept: their {selection['accuracy']:.4f} flatters by {selection['optimism']:.4f}; "
            f"on new drawings expect {selection['nested_accuracy']:.4f}"
        )
    if tuned := run.metrics.get("finetune"):
        _print_tuned(tuned)
    if gain := run.metrics.get("tta"):
        difference = gain["accuracy_with"] - gain["accuracy_without"]
        print(f"test-time views: {difference:+.4f} out of fold, {_against_chance(gain)}")


def _print_tuned(tuned: dict[str, Any]) -> None:
    difference = tuned["accuracy"] - tuned["frozen_accuracy"]
    print(
        f"fine-tuning: {tuned['frozen_accuracy']:.4f} frozen, {tuned['accuracy']:.4f} trained ({difference:+.4f}, "
        f"{_against_chance(tuned)}), on held-out drawings as they are"
    )
    if way := tuned.get("interpolation"):
        tried = ", ".join(f"{share:g}: {accuracy:.4f}" for share, accuracy in zip(way["shares"], way["accuracy"], strict=True))
        print(f"share of the way from the start taken: {way['taken']:g} (flatters by {way['optimism']:.4f}); tried {tried}")


def _against_chance(gain: dict[str, Any]) -> str:
    verdict = "not distinguishable from chance" if gain["p_value"] > 0.05 else "more than chance"
    return f"p = {gain['p_value']:.3g}: {verdict}"


def _figures(part: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(part["n"]),
        _share(part, "accuracy"),
        _share(part, "top5_accuracy"),
        f"{part['macro_recall']:.3f}",
        f"{part['nll']:.3f}",
        f"{part['ece']:.3f}",
    )


def _difference(part: dict[str, Any]) -> str:
    low, high = part["difference_ci95"]
    verdict = "more than chance" if part["distinguishable"] else "not distinguishable from chance"
    return f"{part['difference']:+.4f} ({low:+.4f} to {high:+.4f}), p = {part['p_value']:.3g}: {verdict}"


def _share(part: dict[str, Any], name: str) -> str:
    return _with_interval(part[name], part[f"{name}_ci95"])


def _with_interval(value: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{value:.3f} ({low:.3f}-{high:.3f})"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print cells in columns; with a title the first and the last are aligned to the left."""
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
    """Show backbones, the most accurate first."""
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
            "" if row is rows[0] else f"p = {row.p_value:.2g}" if row.p_value <= 0.05 else "not distinguishable",
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
    for row in rows:
        if row.learnt:
            print(f"the weights of {row.name} learnt from {row.learnt:,} of these drawings; all rows are about {row.n:,}")


def print_audit(audit: dict[str, Any], path: Path) -> None:
    """Show how much was found of what, the first of each, what parted copies would flatter, and what to do."""
    from inkfold.pipeline.manifest import AUDIT

    copies, labels = audit["duplicates"], audit["labels"]
    counts = ", ".join(f"{copies['counts'][kind]} {kind}" for kind in ("leak", "across", "within"))
    print(f"groups of duplicates: {counts}; {copies['counts']['drawings']} drawings")
    for group in copies["groups"][:SHOWN]:
        named = ", ".join(
            f"{one['part']} {one['image_path']} ({one['class_name'] or 'no label'})" for one in group["members"][:4]
        )
        print(f"  {group['kind']}: {named}: {group['pairs'][0]['transform']}")
    _print_flattery(copies["accuracy"])
    if labels is not None:
        wrong = labels["estimated_wrong_fraction"]
        print(f"doubtful labels: {len(labels['doubtful'])} of {labels['n']}; wrong are at most {wrong:.1%}")
        for one in labels["doubtful"][:SHOWN]:
            print(f"  {one['image_path']}: {one['given']!r}, rather {one['suggested']!r} ({one['suggested_probability']:.2f})")
        print(f"classes that can't be told apart: {len(labels['confused'])} pairs")
        for one in labels["confused"][:SHOWN]:
            print(f"  {one['first']!r} and {one['second']!r}: {_share(one, 'accuracy')} right between the two, of {one['n']}")
        print(f"accuracy to be had at most: {labels['ceiling']['accuracy']:.3f}, if {labels['ceiling']['assumption']}")
    print(f"all of it: {path / AUDIT}")
    for step in audit["next"]:
        print(f"next: {step}")


def _print_flattery(told: dict[str, Any] | None) -> None:
    if told is not None:
        alone = f"on the {told['drawings']} of them {_both(told, 'accuracy_of_copies')}"
        print(f"folds that part duplicates would say {_both(told, 'accuracy')}: {_difference(told)}; {alone}")


def _both(told: dict[str, Any], name: str) -> str:
    return f"{told['parted'][name]:.4f} instead of {told['grouped'][name]:.4f}"


def print_search(summary: dict[str, Any], out: str) -> None:
    """Show what a study found, honest figures beside flattering ones."""
    tried, aside = summary["cross_validated"], summary["set_aside"]
    flattering = f"{tried['best']:.3f} (flatters itself)"
    judged = [_share(aside[name], "accuracy") for name in ("as_it_was", "best")]
    rows = [
        ("cross-validated, tuned on", str(tried["n"]), f"{tried['as_it_was']:.3f}", flattering),
        ("set aside, never tuned on", str(aside["n"]), *judged),
    ]
    print_table("", ("accuracy (95 %)", "drawings", "the recipe as it was", "best trial"), rows)
    print(f"gain on drawings set aside: {_difference(aside)}")
    if (told := summary["learnt_by_backbone"]) is not None:
        print(f"a backbone's weights learnt from {told['drawings']:,} of these {told['of']:,} drawings: all accuracies flatter")
    counts = summary["trials"]
    print(f"{counts['complete']} trials, {counts['given_up']} given up early")
    print("best values: " + (", ".join(f"{key}={value}" for key, value in summary["best"].items()) or "the recipe as it was"))
    print(f"study: {out}\nrecipe: {out}/best.yaml")


def print_exported(files: "Sequence[Exported]") -> None:
    """Show how each file compares with its run, and what 8-bit numbers cost."""
    for one in files:
        parity = one.parity
        same = f"{round(parity.agreement * parity.drawings)} of {parity.drawings} drawings get the same class"
        print(f"against the run in float32: {same}, largest difference of a probability {parity.largest_difference:.5f}")
        for note in one.notes:
            print(f"warning: {note}", file=sys.stderr)
        if one.toll is not None:
            _print_toll(one.toll)
        print(f"model: {one.path} ({one.size_bytes / 1e6:.1f} MB, {one.about.precision})")


def _print_toll(toll: "QuantisationCheck") -> None:
    print(f"8-bit numbers: {toll.agreement:.1%} of {toll.drawings} drawings that they weren't chosen by get the same class")
    if toll.difference is None:
        print("their loss of accuracy isn't known: no drawings of known class that the model hasn't learnt from")
        return
    of = "test drawings" if toll.of == "test" else "training drawings, each by the fold that has not seen it"
    print(f"accuracy on {toll.drawings} {of}: {toll.accuracy_float32:.4f} before; change {_difference(toll.difference)}")


def print_weaknesses(found: dict[str, Any], path: Path) -> None:
    """Show what each change does, and what to try against those that do harm."""
    from inkfold.pipeline.manifest import WEAKNESS

    rows = [(_with_interval(found["clean"]["accuracy"], found["clean"]["ci95"]), "", "", "as they are")]
    for row in found["rows"]:
        against = f"p = {row['p_value']:.2g}" if row["significant"] else "not distinguishable"
        rows.append((_with_interval(row["accuracy"], row["ci95"]), f"{-row['drop']:+.3f}", against, row["name"]))
    print_table(f"{found['clean']['n']} held-out drawings", ("accuracy (95 %)", "change", "", "drawings"), rows)
    worst = [row for row in found["rows"] if row["command"]]
    if worst:
        print(f"if your drawings come so ({worst[0]['name']}), try:\n  {worst[0]['command']}")
    cost = found["cost"]
    print(f"{cost['forwards']} forwards, {cost['forwards_cached']} from the bank; all commands: {path / WEAKNESS}")


def print_json(values: Any) -> None:
    """Print values as JSON, indented, for programs and people."""
    print(json.dumps(values, indent=2, ensure_ascii=False))
