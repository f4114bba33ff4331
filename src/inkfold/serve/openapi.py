"""The interface described for programs (OpenAPI 3.1) and, from that, for people: one page without outside assets."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from inkfold.serve.confidence import SENTENCES
from inkfold.serve.http import HttpLimits
from inkfold.serve.messages import Response
from inkfold.serve.request_body import NEAREST, TOP

TEMPLATES = Path(__file__).parent / "templates"
HTML, CSS = "text/html; charset=utf-8", "text/css; charset=utf-8"
REFUSALS = {
    400: "The request isn't HTTP, JSON or a form as they should be, or comes from a foreign page",
    404: "There is nothing at this path",
    405: "The path takes another method",
    408: "The request came too slowly",
    413: "The body is too large",
    415: "The body is of a type that isn't read",
    422: "The picture is broken or too large, or a value is out of range",
    429: "Too many drawings wait; retry-after says when to come back",
    503: "The model is being loaded, the server is being stopped, or too many are connected",
    504: "The answer was not there in time",
}
OF_PREDICT = (400, 408, 413, 415, 422, 429, 503, 504)


def describe(limits: HttpLimits) -> dict[str, Any]:
    """Describe the interface.

    Args:
        limits: What clients can hold.

    Returns:
        An OpenAPI 3.1 document.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "inkfold",
            "version": version("inkfold"),
            "description": "A model that recognises drawings.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/predict": {"post": _predict(limits)},
            "/api/model": {"get": _get("What the model is and knows", "application/json", "Model", (503,))},
            "/healthz": {"get": _get("Whether the process lives", "application/json")},
            "/readyz": {"get": _get("Whether it can answer", "application/json", refusals=(503,))},
            "/metrics": {"get": _get("Figures for Prometheus", "text/plain")},
            "/openapi.json": {"get": _get("This description", "application/json")},
        },
        "components": {"schemas": _schemas()},
    }


def docs_page(document: Mapping[str, Any]) -> Response:
    """Show a description as a page.

    Args:
        document: As `describe` gives it.

    Returns:
        HTML; its style is at `/docs.css`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template("docs.html.j2").render(document=document, kind=_kind)
    return Response(200, html.encode(), HTML, (("cache-control", "no-cache"),))


def docs_style() -> Response:
    """Give the page's style."""
    return Response(200, (TEMPLATES / "docs.css").read_bytes(), CSS, (("cache-control", "no-cache"),))


def _predict(limits: HttpLimits) -> dict[str, Any]:
    picture = {"schema": {"type": "string", "format": "binary", "maxLength": limits.body_bytes}}
    files = {"type": "object", "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}}}
    return {
        "summary": "Recognise drawings",
        "description": "Takes a picture (JPEG, PNG, WebP, BMP, TIFF, GIF), several in a form, or the strokes of a sketch.",
        "parameters": [
            _number("top", "Classes an answer", 1, TOP),
            _number("nearest", "Training drawings an answer", 0, NEAREST),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "image/*": picture,
                "application/octet-stream": picture,
                "multipart/form-data": {"schema": files},
                "application/json": {"schema": _ref("Sketch")},
            },
        },
        "responses": {"200": _content("An answer a drawing", "application/json", "Answers"), **_refusals(OF_PREDICT)},
    }


def _number(name: str, about: str, least: int, usual: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": least, "default": usual}
    return {"name": name, "in": "query", "description": about, "schema": schema}


def _get(summary: str, kind: str, schema: str | None = None, refusals: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _content(summary, kind, schema), **_refusals(refusals)}}


def _content(about: str, kind: str, schema: str | None = None) -> dict[str, Any]:
    return {"description": about, "content": {kind: {"schema": _ref(schema)} if schema else {}}}


def _refusals(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): _content(REFUSALS[status], "application/json", "Refusal") for status in statuses}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _maybe(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


def _schemas() -> dict[str, Any]:
    text, number, whole = {"type": "string"}, {"type": "number"}, {"type": "integer"}
    points = {"type": "array", "minItems": 1, "items": {"type": "array", "items": number, "minItems": 2, "maxItems": 2}}
    stroke = {**_object(points=points, pen=number, erase={"type": "boolean", "default": False}), "required": ["points"]}
    sketch = _object(strokes=_list({"anyOf": [points, _ref("Stroke")]}), width=number, height=number, pen=number)
    words = {"enum": [*SENTENCES]}
    return {
        "Sketch": {**sketch, "required": ["strokes", "width", "height"]},
        "Stroke": stroke,
        "Answers": _object(answers=_list(_ref("Answer")), time_ms=_object(queued=number, model=number, total=number)),
        "Answer": _object(
            name=_maybe("string"), top=_list(_ref("Guess")), sure=_ref("Certainty"), nearest=_list(_ref("Neighbour"))
        ),
        "Guess": _object(class_name=text, target=whole, probability=number),
        "Certainty": _object(
            words=words, text=text, accuracy=_maybe("number"), low=_maybe("number"), high=_maybe("number"), count=whole
        ),
        "Neighbour": _object(class_name=text, similarity=number, image=text),
        "Model": _object(
            name=text,
            classes=whole,
            class_names=_list(text),
            size_px=whole,
            backbones=_list(text),
            folds=whole,
            accuracy={"anyOf": [_object(value=number, ci95=_list(number), of=text), {"type": "null"}]},
            look={"type": "object"},
            nearest={"type": "boolean"},
            limits=_object(body_bytes=whole, pixels=whole, strokes=whole, points=whole),
        ),
        "Refusal": _object(error=_object(code=text, reason=text, expected=text, do=text)),
    }


def _kind(schema: Mapping[str, Any]) -> str:
    """Say a schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("type") == "object" and "properties" in schema:
        return "{" + ", ".join(f"{name}: {_kind(one)}" for name, one in schema["properties"].items()) + "}"
    kind = "file" if schema.get("format") == "binary" else schema.get("type", "anything")
    return kind if isinstance(kind, str) else " or ".join(kind)
