"""The page and the way into it: static files, and a form that turns the token into a session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from app.admin.guard import COOKIE, SESSION_S

if TYPE_CHECKING:
    from app.admin.guard import Tokens

FILES = Path(__file__).parent / "dashboard"


def page_router(tokens: Tokens) -> APIRouter:
    """`/`, /login and the page about the API."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> FileResponse:
        return FileResponse(FILES / "index.html")

    @router.get("/api/docs")
    async def docs() -> FileResponse:
        return FileResponse(FILES / "docs.html")

    @router.get("/login")
    async def form() -> FileResponse:
        return FileResponse(FILES / "login.html")

    @router.post("/login")
    async def login(request: Request, token: Annotated[str, Form()]) -> Response:
        if not tokens.required or not tokens.matches(token):
            return RedirectResponse("/login#wrong", 303)
        entered = RedirectResponse("/", 303)
        entered.set_cookie(
            COOKIE,
            tokens.session(),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return entered

    return router
