"""The HTTP interface described for programs (OpenAPI 3.1) and, from that, for people: one page without outside assets."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from inkfold.serve import schemas
from inkfold.serve.access import PUBLIC
from inkfold.serve.http import HttpLimits
from inkfold.serve.messages import Response
from inkfold.serve.request_body import DEFAULT_NEAREST, DEFAULT_STROKES, DEFAULT_TOP

TEMPLATES = Path(__file__).parent / "templates"
HTML, CSS = "text/html; charset=utf-8", "text/css; charset=utf-8"
REFUSALS = {
    400: "The request isn't valid HTTP, JSON or form data, or comes from a foreign page",
    401: "The server's token is missing, as a bearer's in the header Authorization or as the page's cookie",
    404: "There is nothing at this path",
    405: "The path takes another method",
    408: "The request came too slowly",
    413: "The body is too large",
    415: "The body is of a type that isn't read",
    422: "The picture is broken or too large, or a value is out of range",
    429: "Too many drawings wait; retry-after says when to try again",
    503: "The model is being loaded, the server is being stopped, or too many clients are connected",
    504: "The answer was not ready in time",
}
OF_PREDICT = (400, 408, 413, 415, 422, 429, 503, 504)


class _Schema(GenerateJsonSchema):
    """Leaves out the titles, which repeat the fields' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def describe(limits: HttpLimits, root_path: str = "", *, needs_token: bool = False) -> dict[str, Any]:
    """Describe the HTTP interface.

    Args:
        limits: What clients can hold; the largest body is named.
        root_path: The path that the server is mounted under, without a slash at its end.
        needs_token: Whether requests must carry the server's token.

    Returns:
        An OpenAPI 3.1 document.
    """
    document = _describe_paths(limits, root_path)
    if needs_token:
        document["security"] = [{"token": []}]
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                if path in PUBLIC:
                    operation["security"] = []
                else:
                    operation["responses"] |= _refusals((401,))
    return document


def _describe_paths(limits: HttpLimits, root_path: str) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "inkfold",
            "version": version("inkfold"),
            "description": "A model that recognises drawings.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        **({"servers": [{"url": root_path}]} if root_path else {}),
        "paths": {
            "/predict": {"post": _predict(limits)},
            "/explain": {"post": _explain(limits)},
            "/api/model": {"get": _get("What the model is and knows", "application/json", schemas.Model, (503,))},
            "/healthz": {"get": _get("Whether the process is alive", "application/json")},
            "/readyz": {"get": _get("Whether it can answer", "application/json", refusals=(503,))},
            "/metrics": {"get": _get("Metrics for Prometheus", "text/plain")},
            "/openapi.json": {"get": _get("This description", "application/json")},
        },
        "components": {"schemas": _components()},
    }


def docs_page(document: Mapping[str, Any]) -> Response:
    """Show the description by `describe` as a page, whose style sheet is at `/docs.css`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template("docs.html.j2").render(document=document, kind=_kind)
    return Response(200, html.encode(), HTML, (("cache-control", "no-cache"),))


def docs_style() -> Response:
    """Return the style sheet of the page of `docs_page`."""
    return Response(200, (TEMPLATES / "docs.css").read_bytes(), CSS, (("cache-control", "no-cache"),))


@cache
def _components() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(schemas.Sketch, "validation")]
    models += [(model, "serialization") for model in (schemas.Answers, schemas.Explanation, schemas.Model, schemas.Refusal)]
    _, document = models_json_schema(models, ref_template="#/components/schemas/{model}", schema_generator=_Schema)
    return dict(document["$defs"])


def _predict(limits: HttpLimits) -> dict[str, Any]:
    return {
        "summary": "Recognise drawings",
        "description": "Takes a picture (JPEG, PNG, WebP, BMP, TIFF, GIF), several in a form, or the strokes of a sketch.",
        "parameters": [
            _number("top", "Classes per answer", 1, DEFAULT_TOP),
            _number("nearest", "Training drawings per answer", 0, DEFAULT_NEAREST),
            _FRAME,
        ],
        "requestBody": _drawings(limits),
        "responses": {"200": _content("One answer per drawing", "application/json", schemas.Answers), **_refusals(OF_PREDICT)},
    }


def _explain(limits: HttpLimits) -> dict[str, Any]:
    return {
        "summary": "Show which strokes an answer rests on",
        "description": "Takes one drawing as /predict does, erases its strokes one by one and asks the model each time. It "
        "counts as so many drawings, and one more, in the server's queue.",
        "parameters": [
            _number("strokes", "The most strokes, each of them a forward pass", 1, DEFAULT_STROKES),
            _class_parameter("class", "The class to explain, by name; the model's answer without it"),
            _class_parameter("against", "A second class: what speaks for the first one rather than for this?"),
            _FRAME,
        ],
        "requestBody": _drawings(limits),
        "responses": {"200": _content("The strokes", "application/json", schemas.Explanation), **_refusals(OF_PREDICT)},
    }


def _drawings(limits: HttpLimits) -> dict[str, Any]:
    picture = {"schema": {"type": "string", "format": "binary", "maxLength": limits.body_bytes}}
    files = {"type": "object", "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}}}
    content = {
        "image/*": picture,
        "application/octet-stream": picture,
        "multipart/form-data": {"schema": files},
        "application/json": {"schema": _ref(schemas.Sketch)},
    }
    return {"required": True, "content": content}


def _class_parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}


_FRAME = {
    "name": "frame",
    "in": "query",
    "description": "The part of a single picture that is the drawing: left,top,right,bottom in pixels of the upright picture; "
    "or the word page, which leaves the page whole. Strokes have it in their JSON.",
    "schema": {"type": "string"},
}


def _number(name: str, description: str, least: int, default: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": least, "default": default}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _get(summary: str, kind: str, model: type[BaseModel] | None = None, refusals: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _content(summary, kind, model), **_refusals(refusals)}}


def _content(description: str, kind: str, model: type[BaseModel] | None = None) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": _ref(model)} if model else {}}}


def _refusals(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): _content(REFUSALS[status], "application/json", schemas.Refusal) for status in statuses}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _kind(schema: Mapping[str, Any]) -> str:
    """Say a schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(schema["enum"])
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return " or ".join(map(_kind, schema[choices]))
    if schema.get("type") == "array":
        items = schema.get("items") or schema["prefixItems"][0]
        return f"list of {_kind(items)}"
    return "file" if schema.get("format") == "binary" else str(schema.get("type", "anything"))
