"""Puts the page on the network: our own routes first, Gradio behind them, nothing leaves the machine."""

import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asap_viewer.served import BROWSER_COOKIE, Owner, VolumeServer
from asap_viewer.viewer import STATIC_DIR, STATIC_PATH
from core.errors import ConfigError


@dataclass(frozen=True)
class ServerConfig:
    """Where the page listens and what it accepts."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 7860
    """TCP port."""
    path: str = "/"
    """Address below which the page lies, e.g. "/viewer"."""
    max_upload_bytes: int = 2**30
    """Largest file the page accepts."""

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ConfigError(f"port is {self.port}, expected 1 to 65535; set --port or PORT.")
        if not self.path.startswith("/"):
            raise ConfigError(f"path is {self.path!r}, expected one that starts with '/'.")


def owner_of(request: gr.Request) -> Owner:
    """Who is asking, as `VolumeServer.publish` wants it."""
    return Owner(request.session_hash or "", request.cookies.get(BROWSER_COOKIE, ""))


def build_app(page: gr.Blocks, served: VolumeServer, config: ServerConfig, **looks: Any) -> FastAPI:
    """The whole web application. `looks`: theme, css, head for Gradio."""
    app = FastAPI(title="ASAP Viewer", docs_url=None, redoc_url=None, openapi_url=None)
    prefix = config.path.rstrip("/")
    app.include_router(served.router(), prefix=prefix)
    app.mount(f"{prefix}/{STATIC_PATH}", Scripts(directory=STATIC_DIR))
    app.add_middleware(BrowserCookie)

    def forget(request: gr.Request) -> None:
        served.forget(request.session_hash or "")

    with page:
        page.unload(forget)
    gr.mount_gradio_app(
        app,
        page,
        config.path,
        max_file_size=config.max_upload_bytes,
        ssr_mode=False,
        run_history=False,
        pwa=False,
        **looks,
    )
    return app


def serve(app: FastAPI, config: ServerConfig) -> None:
    """Listen until interrupted."""
    uvicorn.run(app, host=config.host, port=config.port, log_level="warning", timeout_graceful_shutdown=3)


class Scripts(StaticFiles):
    """Our scripts and styles; browsers ask each time (304), so that an upgrade never mixes two versions."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


class BrowserCookie:
    """ASGI middleware: gives every browser a random cookie with its first page, to tie volume addresses to it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _has_cookie(scope):
            await self.app(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.append("set-cookie", _new_cookie())
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def _has_cookie(scope: Scope) -> bool:
    sent = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
    return any(part.strip().startswith(f"{BROWSER_COOKIE}=") for part in sent.split(";"))


def _new_cookie() -> str:
    return f"{BROWSER_COOKIE}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; SameSite=Lax"
