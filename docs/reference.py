"""Writes the manual's pages of reference from the code: recipes' keys, commands, and the Python interface."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer.main

import inkfold
from inkfold.cli import main as _commands  # noqa: F401 - registers the commands
from inkfold.cli.app import APP
from inkfold.config.recipe import AutoRecipe, EnsembleRecipe, Recipe
from inkfold.config.reference import RecipeKey, recipe_keys

NOT_OURS = "set_fit_request, set_score_request, set_output"  # scikit-learn's, whose texts name pages of its own manual
KEYS_INTRO = """\
# Keys of a recipe

Made of the code at each build. `inkfold train RECIPE KEY=VALUE` sets a key; values are YAML. `inkfold recipes NAME` shows a
shipped recipe with all its keys, `inkfold schema` gives the same to an [editor](../editor.md). `null` is YAML's word for none.
"""
API_INTRO = "# Python\n\nMade of the code at each build; [inkfold from Python](../python.md) tells how it is used.\n"
COMMANDS_INTRO = "# Commands\n\nMade of the code at each build. `inkfold COMMAND --help` says the same.\n"


def write(directory: Path) -> None:
    """Write all pages, those alone that have changed, so that Sphinx reads no other."""
    directory.mkdir(exist_ok=True)
    pages = {"keys.md": keys_page(), "commands.md": commands_page(), "api.md": api_page()}
    for name, text in pages.items():
        path = directory / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")


def keys_page() -> str:
    """Describe every key of a recipe, section by section."""
    parts, section = [KEYS_INTRO], None
    for key in recipe_keys():
        if key.section != section:
            section = key.section
            parts.append(f"## {section or 'Other keys'}\n\n{_about(section)}\n" if section else "## Keys in no section\n")
        parts.append(_key(key))
    return "\n".join(_merged(parts))


def _merged(parts: list[str]) -> Iterator[str]:
    """Leave out the second heading of the same name: keys in no section stand in several places."""
    seen = set()
    for part in parts:
        if part.startswith("## ") and part in seen:
            continue
        seen.add(part)
        yield part


def _about(section: str) -> str:
    fields = [schema.model_fields[section] for schema in (Recipe, EnsembleRecipe, AutoRecipe) if section in schema.model_fields]
    return str(fields[0].description) if fields else ""


def _key(key: RecipeKey) -> str:
    facts = [f"Type: {key.type}", *([f"values: {key.range}"] if key.range else [])]
    facts.append("must be given" if key.default is None else f"default: `{key.default}`")
    facts.append(f"example: `{_example(key)}`")
    if key.needs:
        facts.append("with " + " and ".join(f"`{name}={value}`" for name, value in key.needs))
    if key.recipe != "one model":
        facts.append(f"in the recipe of {key.recipe}")
    return f"### `{key.name}`\n\n{key.meaning}\n\n{'; '.join(facts)}.\n"


def _example(key: RecipeKey) -> str:
    is_within = "[]" in key.name or ".KEY." in key.name
    return f"{key.name.rpartition('.')[2]}: {key.example}" if is_within else f"{key.name}={key.example}"


def commands_page() -> str:
    """Describe every command: what it does, arguments, options, examples."""
    root = typer.main.get_command(APP)
    commands: dict[str, Any] = root.commands  # type: ignore[attr-defined]
    return "\n".join([COMMANDS_INTRO, *(_command(name, command) for name, command in commands.items())])


def _command(name: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if parameter.name not in ("help", "verbose", "debug")]
    usage = " ".join(_usage(parameter) for parameter in shown if parameter.param_type_name == "argument")
    rows = [f"| `{_label(one)}` | {_cell(one.help or '')} | {_default(one)} |" for one in shown]
    table = "\n".join(["| | | default |", "|---|---|---|", *rows]) + "\n" if rows else ""
    examples = (command.epilog or "").removeprefix("\b\n").strip()
    block = f"\n```text\n{examples}\n```\n" if examples else ""
    told = inspect.cleandoc(command.help or "")
    return f"## `inkfold {name}`\n\n{told}\n\n```text\ninkfold {name} {usage}\n```\n\n{table}{block}"


def _usage(parameter: Any) -> str:
    label = parameter.metavar or parameter.name.upper()
    return f"{label}..." if parameter.nargs == -1 or parameter.multiple else label if parameter.required else f"[{label}]"


def _label(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return ", ".join(parameter.opts)


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "must be given"
    is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f"`{value}`" if is_plain else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def api_page() -> str:
    """Describe what `inkfold.__all__` names, by its docstrings."""
    parts = [API_INTRO]
    for name in inkfold.__all__:
        place, kind = _place(name)
        members = f"\n   :members:\n   :exclude-members: {NOT_OURS}\n" if kind == "autoclass" else ""
        parts.append(f"## `inkfold.{name}`\n\n```{{eval-rst}}\n.. {kind}:: {place}{members.rstrip()}\n```\n")
    return "\n".join(parts)


def _place(name: str) -> tuple[str, str]:
    """Return where Sphinx finds a public name, and as what; a package that is called is the function behind it."""
    value = getattr(inkfold, name)
    if isinstance(value, ModuleType):
        value = value._function
    if issubclass(value, Exception) if isinstance(value, type) else False:
        return f"{value.__module__}.{value.__qualname__}", "autoexception"
    return f"{value.__module__}.{value.__qualname__}", "autoclass" if isinstance(value, type) else "autofunction"
