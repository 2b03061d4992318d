"""Errors as upstream's endpoints answer them: {success: false, error, message}."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.db.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from pipeline.errors import PipelineError, Temporary

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

_STATUS: dict[type[RefusedError], tuple[int, str]] = {
    NotFoundError: (404, "not_found"),
    InvalidError: (422, "invalid"),
    ConflictError: (409, "conflict"),
}
_log = structlog.get_logger()


def answer_errors(app: FastAPI) -> None:
    """Give every error that may reach a person its status and its words."""
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(Temporary, _temporary)
    app.add_exception_handler(PipelineError, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)


def failure(status: int, error: str, message: str) -> JSONResponse:
    """One error."""
    return JSONResponse({"success": False, "error": error, "message": message}, status)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    status, code = next((found for kind, found in _STATUS.items() if isinstance(error, kind)), (409, "refused"))
    return failure(status, code, str(error))


async def _temporary(_request: Request, error: Exception) -> JSONResponse:
    return failure(503, "unavailable", f"{error}; try again")


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """The first field that is wrong; the value itself is not repeated."""
    if not isinstance(error, RequestValidationError):
        raise TypeError(error)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return failure(422, "invalid", f"{field}: {first['msg']}")


async def _http(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise TypeError(error)
    return failure(error.status_code, "http", str(error.detail))


async def _failed(request: Request, error: Exception) -> JSONResponse:
    _log.error("request failed", path=request.url.path, exc_info=error)
    return failure(500, type(error).__name__, "this is a fault of ours; the log has it")
