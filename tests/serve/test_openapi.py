import re

from inkfold.serve.http import HttpLimits
from inkfold.serve.openapi import describe, docs_page, docs_style

DOCUMENT = describe(HttpLimits())


def references(value):
    if isinstance(value, dict):
        return [*([value["$ref"]] if "$ref" in value else []), *(ref for one in value.values() for ref in references(one))]
    return [ref for one in value for ref in references(one)] if isinstance(value, list) else []


def test_every_reference_leads_somewhere():
    found = {ref.removeprefix("#/components/schemas/") for ref in references(DOCUMENT)}
    assert found <= set(DOCUMENT["components"]["schemas"])
    assert {"Sketch", "Answers", "Refusal", "Model"} <= found


def test_the_page_names_everything_and_nothing_outside():
    page = docs_page(DOCUMENT).body.decode()
    for path in DOCUMENT["paths"]:
        assert path in page
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="{name}"' in page
    assert not re.search(r"(src|href)=\"(https?:)?//|<script|style=", page)
    assert b"http" not in docs_style().body
