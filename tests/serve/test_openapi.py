import re

from inkfold.serve.http import HttpLimits
from inkfold.serve.openapi import describe, docs_page, docs_style
from inkfold.serve.schemas import MAX_POINTS, MAX_STROKES

DOCUMENT = describe(HttpLimits())


def references(value):
    if isinstance(value, dict):
        return [*([value["$ref"]] if "$ref" in value else []), *(ref for part in value.values() for ref in references(part))]
    return [ref for part in value for ref in references(part)] if isinstance(value, list) else []


def test_every_reference_leads_somewhere():
    names = {ref.removeprefix("#/components/schemas/") for ref in references(DOCUMENT)}
    assert names <= set(DOCUMENT["components"]["schemas"])
    assert {"Sketch", "Answers", "Refusal", "Model"} <= names


def test_the_limits_are_in_the_schemas():
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Sketch"]["properties"]["strokes"]["maxItems"] == MAX_STROKES
    assert schemas["Stroke"]["properties"]["points"]["maxItems"] == MAX_POINTS
    assert f"{MAX_POINTS:,}" in schemas["Sketch"]["description"]


def test_every_schema_and_field_is_described():
    for schema in DOCUMENT["components"]["schemas"].values():
        assert schema["description"]
        for field in schema["properties"].values():
            assert "$ref" in field or field["description"]


def test_a_mount_is_named_as_the_server():
    assert "servers" not in DOCUMENT
    assert describe(HttpLimits(), "/draw")["servers"] == [{"url": "/draw"}]


def test_a_token_is_named_where_it_is_needed():
    assert "security" not in DOCUMENT
    document = describe(HttpLimits(), needs_token=True)
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "401" in document["paths"]["/predict"]["post"]["responses"]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "401" not in document["paths"]["/healthz"]["get"]["responses"]
    docs_page(document)


def test_the_page_names_everything_and_nothing_outside():
    page = docs_page(DOCUMENT).body.decode()
    for path in DOCUMENT["paths"]:
        assert path in page
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="{name}"' in page
    assert not re.search(r"(src|href)=\"(https?:)?//|<script|style=", page)
    assert b"http" not in docs_style().body
