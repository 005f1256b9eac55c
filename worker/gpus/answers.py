"""How what is refused is told over HTTP: always the same form, in the language that is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from worker.gpus import rules
from worker.gpus.refusals import Reason, Refusal, language

STATUS = {
    Reason.BUSY: 409,
    Reason.KEY_ENDED: 409,
    Reason.NOT_READY: 503,
    Reason.NO_ALLOCATION: 404,
    Reason.NO_NODE: 404,
    Reason.NO_PATH: 404,
    Reason.UNAUTHORISED: 401,
    Reason.WRONG_HOST: 401,
    Reason.TOO_LARGE: 413,
    Reason.BROKEN: 500,
}
"""of all others 422"""
HEADERS: Mapping[Reason, Mapping[str, str]] = {
    Reason.NOT_READY: {"Retry-After": "5"},
    Reason.UNAUTHORISED: {"WWW-Authenticate": "Bearer"},
}


def add_refusals(app: FastAPI) -> None:
    for kind in (Refusal, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)


def told(refused: Refusal, accept_language: str, status: int = 0) -> JSONResponse:
    message = refused.text(language(accept_language))
    return JSONResponse(
        {"success": False, "error": {"code": refused.reason.code, "message": message}},
        status or STATUS.get(refused.reason, 422),
        HEADERS.get(refused.reason),
    )


async def _answer(request: Request, error: Exception) -> JSONResponse:
    refused = _refusal(request, error)
    request.app.state.refused[refused.reason.code] += 1
    wrong_method = isinstance(error, HTTPException) and error.status_code == 405
    return told(refused, request.headers.get("accept-language", ""), 405 if wrong_method else 0)


def _refusal(request: Request, error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return rules.wrong(first, ".".join(str(part) for part in first["loc"][1:]) or "body")
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        return Refusal(Reason.NO_PATH, said=f"{request.method} {request.url.path}")
    if isinstance(error, HTTPException) and error.status_code == 413:
        return Refusal(Reason.TOO_LARGE, said=error.detail)
    if isinstance(error, HTTPException):
        return Refusal(Reason.WRONG_VALUE, name="body", said="...", rule=error.detail)
    return Refusal(Reason.BROKEN, said=type(error).__name__)
