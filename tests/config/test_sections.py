import ast
import itertools
from pathlib import Path

import pytest
from pydantic import ValidationError

import inkfold
from inkfold.config.sections import FinetuneSettings, FoldSettings

SHARED_AT_MOST = 2
# What the settings came to and what a search did, as it is written to files; and arrays of drawings, not settings.
RESOLVED = {"BackboneInfo", "Samples", "Step", "RacedBackbone"}


def classes():
    """The fields of every dataclass and pydantic model of the package, and those that have a default."""
    fields_of = {}
    for path in sorted(Path(inkfold.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
                names = {field.target.id for field in fields}
                fields_of[path.parent.name, node.name] = names, {field.target.id for field in fields if field.value is not None}
    return fields_of


def test_no_setting_is_defined_twice():
    """A component takes a section, or a subclass of it: a copy of its fields has another default one day."""
    settings = {key: fields for key, fields in classes().items() if key[1] not in RESOLVED}
    sections = {key: fields for key, fields in settings.items() if key[0] == "config"}
    others = {key: fields for key, fields in settings.items() if key[0] != "config"}
    assert {"FinetuneSettings", "ImageSettings", "DataSettings"} <= {name for _, name in sections}
    assert {"ImageOptions", "BackboneSpec", "HeadSpec"} <= {name for _, name in others}
    shared = {
        (section[1], other[1]): names & copied
        for (section, (names, _)), (other, (copied, _)) in itertools.product(sections.items(), others.items())
    }
    shared |= {
        (first[1], second[1]): defaults & copied
        for (first, (_, defaults)), (second, (_, copied)) in itertools.combinations(others.items(), 2)
    }
    assert {pair: sorted(names) for pair, names in shared.items() if len(names) > SHARED_AT_MOST} == {}


def test_every_setting_says_what_it_means():
    from inkfold.config import sections

    models = [value for value in vars(sections).values() if isinstance(value, type) and issubclass(value, sections.Section)]
    assert len(models) > 15
    silent = [
        f"{model.__name__}.{name}" for model in models for name, field in model.model_fields.items() if not field.description
    ]
    assert silent == []


def test_parts_are_some_of_k_and_a_holdout_is_one():
    assert FoldSettings().held_out_parts == 5
    assert FoldSettings(k=3, parts=2).held_out_parts == 2
    assert FoldSettings(split="holdout").held_out_parts == FoldSettings(split="holdout", parts=1).held_out_parts == 1
    assert [FoldSettings(k=3, parts=parts).is_partial for parts in (None, 1, 2, 3)] == [False, True, True, False]
    assert not FoldSettings(split="holdout").is_partial
    with pytest.raises(ValidationError, match="parts: got 4, expected at most k, 3"):
        FoldSettings(k=3, parts=4)
    with pytest.raises(ValidationError, match="parts: got 2, but a holdout holds out one part"):
        FoldSettings(split="holdout", parts=2)


def test_a_training_stops_within_its_epochs():
    assert FinetuneSettings(epochs=7).trained_epochs == 7
    assert FinetuneSettings(epochs=7, stop_epoch=3).trained_epochs == 3
    with pytest.raises(ValidationError, match="stop_epoch: got 8, expected at most epochs, 7"):
        FinetuneSettings(epochs=7, stop_epoch=8)
