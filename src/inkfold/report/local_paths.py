"""Takes the folders of this machine out of a page, which others shall read: names of files and folders stay."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from inkfold.pipeline.run_files import RunFiles
from inkfold.report.thumbnails import Picture

PATH_CHARACTER = r"[\w./~-]"  # what stands before a path that belongs to a longer one
NAMED_PATH = re.compile(r"(?:^|[\s='\"(\[])(/[^\s='\",)\]]+)")  # in settings such as data=/srv/drawings


def without_local_paths(view: Any, places: Iterable[Path], folder: Path | None = None) -> Any:
    """Shorten the absolute paths of a page to what is of use elsewhere.

    Paths in the present folder become relative to it, so that commands can still be copied; of the others only what lies in the
    folder of a known place stays, such as `drawings/cat/1.png` of `/home/ann/drawings/cat/1.png`; paths at home begin with `~`.

    Args:
        view: What the page shows: text in mappings, lists, tuples and dataclasses of any depth. Markup and pictures stay.
        places: Files and folders of this machine that the page may name, such as the run and its data; relative ones are none.
        folder: The present folder; None takes that of this process.

    Returns:
        The same view with shorter paths.
    """
    here = (folder or Path.cwd()).absolute()
    absolute = [place for place in {*places, here, Path.home()} if place.is_absolute() and len(place.parts) > 1]
    shorter = {str(place): place.name for place in absolute}
    shorter |= {f"{place.parent}/": "" for place in absolute if len(place.parent.parts) > 1}
    shorter |= {f"{Path.home()}/": "~/", str(Path.home()): "~"}
    inside = [place for place in shorter if place.startswith(f"{here}/")]
    shorter = {place: text for place, text in shorter.items() if place not in inside} | {f"{here}/": "", str(here): "."}
    known = "|".join(re.escape(place) for place in sorted(shorter, key=len, reverse=True))
    pattern = re.compile(rf"(?<!{PATH_CHARACTER})(?:{known})(?:(?<=/)|(?![\w-]))")
    return _mapped(view, lambda text: pattern.sub(lambda match: shorter[match[0]], text))


def places_of(run: RunFiles) -> list[Path]:
    """List the files and folders that a run names: its own, and every absolute path in its recipes and of its backbones."""
    backbones = [run.manifest.get(name) for name in ("backbone", "beside", "members")]  # not its classes, which are names
    texts = [*_texts([run.recipe, *run.model_recipes, backbones])]
    named = [path for text in texts for path in NAMED_PATH.findall(text)] + [text for text in texts if text.startswith("/")]
    return [run.path.absolute(), run.path.resolve(), *map(Path, named)]


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Apply a change to every text of a view."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        inner_values = [_mapped(inner, change) for inner in value]
        return value._make(inner_values) if isinstance(value, tuple) and hasattr(value, "_make") else type(value)(inner_values)
    if is_dataclass(value) and not isinstance(value, type | Picture):
        return replace(
            value, **{field.name: _mapped(getattr(value, field.name), change) for field in fields(value) if field.init}
        )
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
