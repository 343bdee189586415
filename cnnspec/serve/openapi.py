"""The OpenAPI 3.1 document of the server, with the requests that this network answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cnnspec
from cnnspec.serve.service import Service

ERRORS = {
    "400": "what was sent cannot be read, or does not fit the network",
    "404": "no such path or layer",
    "408": "the request came too slowly",
    "411": "there is no Content-Length",
    "413": "the body, or what is asked for, is too large",
    "503": "too much is asked at once",
}
ARRAY: dict[str, Any] = {
    "type": "object",
    "required": ["shape", "float32"],
    "properties": {
        "shape": {"type": "array", "items": {"type": "integer"}},
        "float32": {"type": "string", "contentEncoding": "base64", "description": "little-endian, last axis fastest"},
    },
}


def openapi(service: Service) -> dict[str, Any]:
    """Return the document as a JSON value."""
    image = "x".join(map(str, service.pipeline.shape or service.pipeline.input))
    images = f"Images of {image} with pixels 0 to 255; others are brought to that as `cnnspec predict` does."
    layer = _parameter("layer", "a layer's name", {"type": "string"})
    top = _parameter("top", "how many classes to name", {"type": "integer", "minimum": 1, "default": 3})
    start = _parameter("start", "number of the first image", {"type": "integer", "minimum": 0, "default": 0})
    text, objects = {"type": "string"}, {"type": "array", "items": {"type": "object"}}
    notes = {"type": "array", "items": text, "description": "what was converted"}
    layers = {"type": "array", "items": {**ARRAY, "properties": {"name": text, **ARRAY["properties"]}}}
    weights = {"type": "object", "additionalProperties": ARRAY}
    predicted = _object(answers={**objects, "description": "one an image"}, notes=notes)
    activated = _object(input=ARRAY, layers=layers, notes=notes)
    pictures = _object(count={"type": "integer"}, images=objects)
    ready = _object(status={"const": "ok"}, name=text, weights=text)
    return {
        "openapi": "3.1.0",
        "info": {"title": service.name, "version": cnnspec.__version__, "description": images},
        "paths": {
            "/predict": {"post": _operation("What the network says of images", [top], predicted, images)},
            "/activations": {"post": _operation("The values of layers for one image", [layer], activated, images)},
            "/weights": {
                "get": _operation(
                    "A layer's parameters", [{**layer, "required": True}], _object(name=text, weights=weights)
                )
            },
            "/spec": {"get": _operation("What the network is", [], {"type": "object"})},
            "/test-images": {"get": _operation("Pictures of some test images", [start], pictures)},
            "/health": {"get": _operation("Whether it is ready", [], ready)},
        },
    }


def _operation(summary: str, parameters: list[Any], schema: Mapping[str, Any], body: str | None = None) -> Any:
    error = {"application/json": {"schema": _object(error={"type": "string"})}}
    description: dict[str, Any] = {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": schema}}},
            **{status: {"description": why, "content": error} for status, why in ERRORS.items()},
        },
    }
    if body is not None:
        pixels = {"description": "nested lists of pixels", "type": "array"}
        number = {"description": "number of a test image, or several", "type": ["integer", "array"]}
        either = {"oneOf": [_object(images=pixels), _object(test_image=number)]}
        description["requestBody"] = {
            "description": body,
            "required": True,
            "content": {
                "application/json": {"schema": either},
                "application/x-npy": {"schema": {}},
                "image/*": {"schema": {}},
            },
        }
    return description


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _parameter(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}
