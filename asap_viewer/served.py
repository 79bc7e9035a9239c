"""Hands voxels to the browser: one unguessable address per session and array, gone when the session ends."""

import gzip
import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response
from isal import igzip

from core.errors import ConfigError

VOLUME_PATH = "asap/volume"
"""Where the routes lie below the page's own address."""

BROWSER_COOKIE = "asap_browser"
"""Cookie that ties an address to the browser it was made for."""


class Owner(NamedTuple):
    """Who may fetch an array."""

    session: str  # one open page
    browser: str = ""  # value of the browser's cookie; "" where cookies are blocked, then the address alone protects


class Blob:
    """An array as the browser reads it: little-endian, x fastest, gzip made at the first request and then kept."""

    def __init__(self, array: np.ndarray, content_hash: str = "") -> None:
        """array: (X, Y, Z) int16 or uint8, not copied and not to be changed. content_hash: hex digest, if known."""
        self.raw_bytes = array.nbytes
        self._array: np.ndarray | None = array
        self._gzipped: bytes | None = None
        self._lock = threading.Lock()
        self.etag = f'"{content_hash or hashlib.blake2b(_x_fastest(array), digest_size=16).hexdigest()}"'

    @property
    def held_bytes(self) -> int:
        """Memory the compressed copy takes now."""
        return len(self._gzipped) if self._gzipped is not None else 0

    def gzipped(self) -> bytes:
        """The body; the array itself is let go once compressed."""
        with self._lock:
            if self._gzipped is None:
                assert self._array is not None
                self._gzipped = igzip.compress(_x_fastest(self._array), compresslevel=1)
                self._array = None
            return self._gzipped


class FileBlob:
    """A file to be saved by the browser under its own name."""

    def __init__(self, content: bytes, filename: str) -> None:
        self.content = content
        self.filename = filename
        self.raw_bytes = self.held_bytes = len(content)
        self.etag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def _x_fastest(array: np.ndarray) -> memoryview:
    """(X, Y, Z) -> bytes in the order the browser indexes: x + X * (y + Y * z), little-endian."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little.transpose(2, 1, 0)).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class ServedLimits:
    """What the server holds before it forgets the least recently used."""

    max_held_bytes: int = 1_500_000_000
    """Compressed bytes over all sessions."""
    idle_s: float = 6 * 3600.0
    """An array nobody fetched or published for this long is dropped."""
    grace_s: float = 15.0
    """After its session ended an array waits this long, so that reloading the page finds it again."""

    def __post_init__(self) -> None:
        if min(self.max_held_bytes, self.idle_s) <= 0 or self.grace_s < 0:
            raise ConfigError(f"limits must be positive, got {self}; leave them out for the defaults")


@dataclass
class _Entry:
    blob: Blob | FileBlob
    browser: str
    sessions: set[str]
    used_s: float
    ended_s: float | None = None


@dataclass
class VolumeServer:
    """The arrays the open pages may fetch. All methods may be called from any thread."""

    limits: ServedLimits = field(default_factory=ServedLimits)
    """How much is held, and for how long."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; tests pass their own."""

    def __post_init__(self) -> None:
        self._entries: dict[str, _Entry] = {}  # token -> entry, least recently used first
        self._lock = threading.Lock()

    def publish(self, blob: Blob | FileBlob, owner: Owner) -> str:
        """Relative address at which `owner` finds `blob`; the same browser gets the same address again."""
        with self._lock:
            token = self._token_of(blob, owner) or secrets.token_urlsafe(24)
            entry = self._entries.pop(token, None) or _Entry(blob, owner.browser, set(), 0.0)
            entry.sessions.add(owner.session)
            entry.used_s, entry.ended_s = self.clock(), None
            self._entries[token] = entry
            self._sweep()
        return f"{VOLUME_PATH}/{token}"

    def forget(self, session: str) -> None:
        """The session ended: after the grace period its arrays are gone, unless another page shows them."""
        with self._lock:
            for entry in self._entries.values():
                entry.sessions.discard(session)
                if not entry.sessions and entry.ended_s is None:
                    entry.ended_s = self.clock()
            self._sweep()
        timer = threading.Timer(self.limits.grace_s + 0.1, self.sweep)
        timer.daemon = True
        timer.start()

    def sweep(self) -> None:
        """Drop what has ended, lain idle or does not fit."""
        with self._lock:
            self._sweep()

    def find(self, token: str, browser: str) -> Blob | FileBlob | None:
        """The array behind `token` for this browser; None when unknown, gone, or somebody else's."""
        with self._lock:
            self._sweep()
            entry = self._entries.get(token)
            if entry is None or (entry.browser and not secrets.compare_digest(entry.browser, browser)):
                return None
            entry.used_s = self.clock()
            self._entries[token] = self._entries.pop(token)
            return entry.blob

    def __len__(self) -> int:
        return len(self._entries)

    def router(self) -> APIRouter:
        """The routes, to be included below the page's own address."""
        router = APIRouter(prefix=f"/{VOLUME_PATH}")

        @router.get("/{token}")
        def volume(token: str, request: Request) -> Response:  # sync: compressing must not block the event loop
            return answer(self.find(token, request.cookies.get(BROWSER_COOKIE, "")), request)

        return router

    def _token_of(self, blob: Blob | FileBlob, owner: Owner) -> str:
        """The live token of the same bytes for the same known browser, or ""."""
        if not owner.browser:
            return ""
        same = (t for t, e in self._entries.items() if e.browser == owner.browser and e.blob.etag == blob.etag)
        return next(same, "")

    def _sweep(self) -> None:
        now = self.clock()
        for token, entry in list(self._entries.items()):
            has_ended = entry.ended_s is not None and now - entry.ended_s >= self.limits.grace_s
            if has_ended or now - entry.used_s > self.limits.idle_s:
                del self._entries[token]
        for token in list(self._entries)[:-1]:  # the newest always stays
            if self.held_bytes() <= self.limits.max_held_bytes:
                break
            del self._entries[token]

    def held_bytes(self) -> int:
        """Compressed bytes held; an array shared by many sessions counts once."""
        return sum({id(e.blob): e.blob.held_bytes for e in self._entries.values()}.values())


def answer(blob: Blob | FileBlob | None, request: Request) -> Response:
    """The HTTP answer for one array: 200 with the bytes, 304 when the browser has them, 404 for None."""
    if blob is None:
        return Response("No such volume: open the case again.", 404, {"Cache-Control": "no-store"})
    headers = {"ETag": blob.etag, "Cache-Control": "private, no-cache", "Vary": "Cookie, Accept-Encoding"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if blob.etag in known:
        return Response(status_code=304, headers=headers)
    if isinstance(blob, FileBlob):
        headers |= {
            "Content-Disposition": f'attachment; filename="{blob.filename}"',
            "X-Content-Type-Options": "nosniff",
        }
        return Response(blob.content, headers=headers, media_type="application/octet-stream")
    body = blob.gzipped()
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    headers |= {"X-Raw-Bytes": str(blob.raw_bytes), "X-Content-Type-Options": "nosniff"}
    return Response(body, headers=headers, media_type="application/octet-stream")
