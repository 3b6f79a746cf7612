"""The page of `guie search --serve`: a web application on 127.0.0.1, which other computers cannot reach.

It asks for no password, so other users of this computer can open it; help and README say so. Other web sites in the
same browser cannot (`guie.search.guard`).

Why Starlette and uvicorn: uploads are streamed, so one that is too large is refused before all of it is in memory;
Starlette checks the Host header, and its test client needs no port. A photo is named by an id that the server looks up;
the server never opens a path from a request.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import anyio
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from guie.data.names import shown_name
from guie.errors import explained, is_of_the_machine
from guie.search.answer import answer, for_people, query_of
from guie.search.embedder import Embedder
from guie.search.guard import OwnPageOnly
from guie.search.live import LiveIndex, Shown
from guie.search.page import about, asset, generation, page, title
from guie.search.port import HOST
from guie.search.session import Say
from guie.search.store import Index
from guie.search.thumbnails import LARGE_PX, SMALL_PX, Thumbnails

MAX_UPLOAD = 64 << 20  # bytes
N_UPLOADS = 4  # in memory at a time
N_SEARCHES = 2  # at a time: each uses all cores
N_NEAR = 24  # neighbours on the page
MAX_NEAR = 200
MAX_PHOTOS = 500  # in one answer for the grid
UPLOAD_TYPES = ("application/octet-stream", "image/")  # another site cannot send these without a CORS preflight
log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


def _in_one_line(endpoint: Endpoint) -> Endpoint:
    """Answers errors as JSON in one line: an HTTPException with its own status, a ValueError with 422, all others with
    500 and a line in the log."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException as error:
            return JSONResponse({"error": error.detail}, status_code=error.status_code)
        except ClientDisconnect:  # nobody reads the answer
            return Response(status_code=400)
        except Exception as error:
            if isinstance(error, ValueError) and not is_of_the_machine(error):
                return JSONResponse({"error": str(error)}, status_code=422)
            line, _ = explained(error, f"{request.method} {request.url.path}")
            log.error("%s", line)
            return JSONResponse({"error": line}, status_code=500)

    return answered


class _Pages:
    """The endpoints, with what they share."""

    def __init__(self, live: LiveIndex) -> None:
        self.live = live
        self.thumbnails = Thumbnails()
        self.uploads = anyio.Semaphore(N_UPLOADS)
        self.searches = threading.Semaphore(N_SEARCHES)

    async def home(self, request: Request) -> Response:
        return HTMLResponse(page(title((await run_in_threadpool(self.live.shown)).index)))

    async def style_sheet(self, request: Request) -> Response:
        return Response(asset("page.css"), media_type="text/css")

    async def script(self, request: Request) -> Response:
        return Response(asset("page.js"), media_type="text/javascript")

    async def index(self, request: Request) -> Response:
        def told() -> dict[str, Any]:
            return about(self.live.shown().index) | {"problem": self.live.problem}

        return JSONResponse(await run_in_threadpool(told))

    async def photos(self, request: Request) -> Response:
        """A part of the grid."""
        start = _number(request, "start", 0, 0, 1 << 62)
        n = _number(request, "n", 60, 1, MAX_PHOTOS)

        def listed() -> dict[str, Any]:
            shown = self.live.shown()
            rows = _rows(shown, request)
            found = [_photo(shown, row) for row in rows[start : start + n]]
            return {"photos": found, "total": len(rows), "generation": generation(shown.index)}

        return JSONResponse(await run_in_threadpool(listed))

    async def near(self, request: Request) -> Response:
        """Neighbours of a photo in the index, or of the image that is the request's body."""
        k = _number(request, "k", N_NEAR, 1, MAX_NEAR)
        if request.method != "POST":
            return JSONResponse(await run_in_threadpool(self._near_indexed, request, k))
        kind = request.headers.get("content-type", "")
        if not kind.startswith(UPLOAD_TYPES):
            raise HTTPException(415, "send the image's bytes as application/octet-stream")
        async with self.uploads:
            content = await _body(request)
            return JSONResponse(await run_in_threadpool(self._near_uploaded, request, content, k))

    async def small(self, request: Request) -> Response:
        return await run_in_threadpool(self._jpeg, request, SMALL_PX)

    async def large(self, request: Request) -> Response:
        return await run_in_threadpool(self._jpeg, request, LARGE_PX)

    def _near_indexed(self, request: Request, k: int) -> dict[str, Any]:
        shown = self.live.shown()
        row = _row(shown, request.query_params.get("id", ""))
        with self.searches:
            embedding = shown.index.vectors().raw(np.array([row]))
            (near,) = shown.index.nearest(embedding, k, [np.array([row])], _rows(shown, request))
        return {"query": _photo(shown, row), **_found(shown, near)}

    def _near_uploaded(self, request: Request, content: bytes, k: int) -> dict[str, Any]:
        shown = self.live.shown()
        if not content:
            raise ValueError("the request has no image in its body")
        with self.searches:
            query = query_of("the upload", content, shown.index, shown.embedder)
            if query.problem:
                raise ValueError(query.problem)
            (found,) = answer([query], shown.index, k, rows=_rows(shown, request))
        own = [_photo(shown, int(row)) for row in query.own[:10]]
        return {"own": own, **_found(shown, found.near)}

    def _jpeg(self, request: Request, longest_px: int) -> Response:
        shown = self.live.shown()
        row = _row(shown, request.path_params["id"])
        try:
            made = self.thumbnails.jpeg(shown.index.file(row), str(shown.index.table["digest"].iloc[row]), longest_px)
        except ValueError as error:
            raise HTTPException(404, f"this photo: {error}") from error
        return Response(made, media_type="image/jpeg", headers={"cache-control": "private, max-age=60"})


def application(live: LiveIndex) -> Starlette:
    """The web application over an index."""
    pages = _Pages(live)
    routes = [
        ("/", pages.home, ["GET"]),
        ("/page.css", pages.style_sheet, ["GET"]),
        ("/page.js", pages.script, ["GET"]),
        ("/api/index", pages.index, ["GET"]),
        ("/api/photos", pages.photos, ["GET"]),
        ("/api/near", pages.near, ["GET", "POST"]),
        ("/thumb/{id}", pages.small, ["GET"]),
        ("/photo/{id}", pages.large, ["GET"]),
    ]
    return Starlette(
        routes=[Route(path, _in_one_line(endpoint), methods=methods) for path, endpoint, methods in routes],
        middleware=[
            Middleware(OwnPageOnly),
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False),
        ],
    )


async def _body(request: Request) -> bytes:
    """The request's body.

    Raises:
        HTTPException: it has more than `MAX_UPLOAD` bytes.
    """
    too_large = HTTPException(413, f"the image has more than {MAX_UPLOAD >> 20} MB; make it smaller")
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > MAX_UPLOAD:
        raise too_large
    blocks = bytearray()
    async for block in request.stream():
        blocks += block
        if len(blocks) > MAX_UPLOAD:
            raise too_large
    return bytes(blocks)


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
        raise HTTPException(400, f"{name} is {text[:40]!r}, must be a whole number, {low} to {high:,}")
    return int(text)


def _rows(shown: Shown, request: Request) -> range:
    """The rows of the folder that the request names, or all rows if it names none. An unknown folder has no rows."""
    folder = request.query_params.get("folder", "").rstrip("/")
    return shown.index.rows_of(f"{folder}/" if folder else "")


def _row(shown: Shown, photo_id: str) -> int:
    row = shown.row_of(photo_id)
    if row is None:
        raise HTTPException(404, "there is no photo of this id in the index")
    return row


def _photo(shown: Shown, row: int) -> dict[str, Any]:
    path, label = shown.index.table[["path", "label"]].iloc[row]
    return {"id": shown.id_of(row), "path": for_people(str(path)), "label": shown_name(str(label))}


def _found(shown: Shown, near: list[tuple[int, float]]) -> dict[str, Any]:
    photos = [_photo(shown, row) | {"cosine": round(cosine, 6)} for row, cosine in near]
    return {"photos": photos, "generation": generation(shown.index)}


def serve(index: Index, embedder: Embedder, listening: socket.socket, say: Say, device: str = "cpu") -> None:
    """Serves the page until it is interrupted.

    Args:
        index: The index.
        embedder: The model that made it.
        listening: From `guie.search.port.listen`.
        say: Prints a line for the user.
        device: Where models compute.
    """
    app = application(LiveIndex(index, embedder, device))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    say(f"page: http://{HOST}:{listening.getsockname()[1]}/   (Ctrl-C ends it)")
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn ends all requests first; it raises none if SIGINT is ignored
        uvicorn.Server(config).run(sockets=[listening])
    say("the page is closed")
