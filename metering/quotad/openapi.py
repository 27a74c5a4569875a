"""The OpenAPI document of quotad, made from the table of its routes and the models."""

from typing import Any

import msgspec

from metering import __version__
from metering.quotad.models import ProblemAnswer
from metering.quotad.operations import OPERATIONS, PAGES, Operation, Page
from metering.schemas import components

PROBLEMS = {
    400: "`bad_json`, `bad_request` (the message names the field) or `batch_too_large`.",
    401: "`unauthorized`: the bearer token is missing or wrong.",
    413: "`body_too_large`.",
    415: "`not_json`: the content type is not `application/json`.",
    500: "`internal`: the log says more.",
}
_REF = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """The document, as a JSON value."""
    models = [model for one in OPERATIONS for model in (one.asked, one.answer)]
    models += [page.answer for page in PAGES if page.answer is not None]
    _, schemas = components([*models, ProblemAnswer], _REF)
    paths: dict[str, Any] = {one.path: {"post": _operation(one)} for one in OPERATIONS}
    paths |= {page.path: {"get": _page(page)} for page in PAGES}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "quotad",
            "version": __version__,
            "description": "Whether customers may still use something, answered from memory.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    problems = {str(status): _body(text, ProblemAnswer) for status, text in PROBLEMS.items()}
    return {
        "operationId": one.name,
        "summary": one.summary,
        "security": [{}, {"token": []}],
        "requestBody": {"required": True, "content": _content(one.asked)},
        "responses": {"200": _body("The answer.", one.answer), **problems},
    }


def _page(page: Page) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": _body("As the summary says.", page.answer)}
    if page.answer is not None:
        responses["503"] = _body("As the summary says.", page.answer)
    return {"operationId": page.name, "summary": page.summary, "responses": responses}


def _body(text: str, model: type[msgspec.Struct] | None) -> dict[str, Any]:
    return {"description": text} if model is None else {"description": text, "content": _content(model)}


def _content(model: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=model.__name__)}}}
