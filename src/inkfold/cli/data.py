"""The commands about data, recipes, the cache and the machine: check, augment, recipes, schema, cache, doctor."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from inkfold.cli.app import AsJson, RecipeName, any_number, command, complete_recipe, notes_beside, settings_argument
from inkfold.cli.figures import print_table
from inkfold.cli.output import print_json
from inkfold.cli.training import refuse_ensemble
from inkfold.errors import InkfoldError, problem_lines
from inkfold.runtime.progress import console_progress

CACHE_COLUMNS = ("entry", "size", "shards", "days", "made with")


@command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The directory or table of drawings.")],
    settings: Annotated[list[str], settings_argument("Keys of the section data, group_column, group_pattern and k=FOLDS.")],
    *,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures: how pages are read, and duplicates.")] = None,
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", help="Don't look for duplicates; then nothing is written at all.")
    ] = False,
) -> int:
    """Read and decode a data set, and list everything that is wrong. Looks for duplicates and leaks, too."""
    from inkfold.audit.check import check_data
    from inkfold.pipeline.build import check_options
    from inkfold.storage.outputs import check_output

    options, k = check_options(data, settings)
    if html and no_duplicates:
        raise InkfoldError("check: --html shows duplicates, and --no-duplicates looks for none. Leave one of them out.")
    if html:
        check_output(html)  # before the work, not after it
    with console_progress() as progress:
        checkup = check_data(data, options, k=k, duplicates=not no_duplicates, progress=progress)
    if as_json:
        print_json(checkup.as_json())
    else:
        for line in problem_lines(checkup.problems):
            print(line)
        for name, words in checkup.lines.items():
            print(f"{name}: {words}")
        advice = "correct the errors" + (", or train with data.on_broken=skip" if checkup.can_skip else "")
        print("ready to train" if checkup.ok else f"not ready: {advice}")
    if html:
        from inkfold.report.check_page import write_check_page

        write_check_page(html, checkup)
        print(f"page: {html}", file=sys.stderr)
    return 0 if checkup.ok else 1


@command(part="train")
def augment(
    recipe: RecipeName,
    settings: Annotated[list[str], settings_argument("data=DIR, curriculum=winner, and any key of the recipe.")],
    *,
    out: Annotated[Path, typer.Option(help="The picture to write: .png, .jpg or .webp.")],
    rows: Annotated[int, typer.Option(help="How many drawings are shown.")] = 8,
) -> int:
    """Draw a contact sheet of a recipe's augmentation."""
    from inkfold.pipeline.build import settle_recipe
    from inkfold.report.contact_sheet import write_preview
    from inkfold.storage.outputs import check_output

    refuse_ensemble("augment", recipe)
    check_output(out)
    columns = write_preview(settle_recipe(recipe, tuple(settings)), out, max(1, rows))
    notes = notes_beside(out)
    if len(columns) == 1:
        print("the recipe shows drawings as they are; try curriculum=winner", file=notes)
    print(f"{len(columns)} views: {out}", file=notes)
    return 0


RECIPES_EXAMPLES = """\
examples:
  inkfold recipes
  inkfold recipes first
  inkfold recipes cpu-hour --changed
"""
SCHEMA_EXAMPLES = """\
examples:
  inkfold schema --out inkfold.schema.json

Editors with a YAML language server then complete and check a recipe that
begins with:
  # yaml-language-server: $schema=inkfold.schema.json
"""


@command(RECIPES_EXAMPLES)
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=complete_recipe, help="A recipe's name or file, to show it."),
    ] = None,
    *,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out keys that have their defaults.")] = False,
) -> int:
    """List the shipped recipes, or show one with comments."""
    from inkfold.config.commented import commented_recipe
    from inkfold.config.load import shipped_recipes

    if name is not None:
        print(commented_recipe(name, only_changed=changed), end="")
        return 0
    for shipped, path in shipped_recipes().items():
        print(f"{shipped:<24} {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
    return 0


@command(SCHEMA_EXAMPLES)
def schema(*, out: Annotated[Path | None, typer.Option(help="The file to write; standard output otherwise.")] = None) -> int:
    """Print the JSON schema of recipes, for editors."""
    from inkfold.config.schema import recipe_schema
    from inkfold.storage.files import json_text
    from inkfold.storage.outputs import check_output, write_output

    if out is None:
        print_json(recipe_schema())
        return 0
    check_output(out)
    write_output(out, json_text(recipe_schema()))
    print(f"schema: {out}", file=notes_beside(out))
    return 0


@command()
def doctor(*, as_json: AsJson = False) -> int:
    """Show what this machine has, what is missing, and what is slow."""
    from inkfold.doctor import run_checks

    findings = []
    for finding in run_checks():
        findings.append(finding)
        if not as_json:
            print("\n".join(finding.lines()), flush=True)  # as soon as it is known: some take seconds
    if as_json:
        print_json([finding.as_json() for finding in findings])
    return int(any(finding.state == "broken" for finding in findings))


@command()
def cache(
    *,
    action: Annotated[Literal["list", "prune"], typer.Argument(help="What to do.")] = "list",
    names: Annotated[
        list[str], typer.Argument(help="Entries to prune; none means all that are old enough.", **any_number("NAME"))
    ],
    older_than_days: Annotated[
        float | None, typer.Option(help="Prune only what nothing was added to for so many days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Prune everything.")] = False,
) -> int:
    """List or prune decoded drawings, features and served models."""
    from inkfold.storage.cache import home, list_cache, prune_cache

    if action == "prune":
        if not (names or everything or older_than_days is not None):
            raise InkfoldError("cache prune: say what: NAMES, --older-than-days DAYS or --all.")
        entries = prune_cache(home(), names, older_than_days=older_than_days)
    else:
        entries = list_cache(home())
    rows = [
        (entry.name, f"{entry.bytes / 1e6:.1f} MB", str(entry.shards), f"{entry.age_days:.1f}", entry.description)
        for entry in entries
    ]
    print_table(f"{'removed from' if action == 'prune' else 'in'} {home()}", CACHE_COLUMNS, rows)
    return 0
