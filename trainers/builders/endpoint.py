"""A language model behind an OpenAI-compatible address: POST BASE/chat/completions."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from core.errors import ConfigError, EngineError, ReportError
from trainers.builders.prompts import SYSTEM, Question

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""Answers of a server that may do better a moment later."""
UNUSABLE = frozenset({400, 413, 422})
"""Answers that speak of this question, such as one that is too long for the model."""
LONGEST_WAIT_S = 60.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class EndpointConfig:
    """Where a model is asked, and how patiently."""

    base_url: str
    """For example http://127.0.0.1:8000/v1. Reports are sent there."""
    model: str
    """Its name there."""
    key: str = ""
    """Sent as a bearer token; "" sends none."""
    timeout_s: float = 120.0
    """Longest silence of the server."""
    retries: int = 4
    """How often a busy or silent server is asked again."""
    wait_s: float = 1.0
    """Before the first retry; doubled before each further one."""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigError(f"base_url is {self.base_url!r}; expected an address like http://127.0.0.1:8000/v1.")
        if not self.model or self.timeout_s <= 0 or self.retries < 0 or self.wait_s < 0:
            raise ConfigError("The endpoint needs the name of a model, a positive timeout and no negative retries.")
        if not self.key.isascii() or not self.key.isprintable():
            raise ConfigError("The key of the endpoint has characters that no HTTP header can carry; copy it again.")


class Endpoint:
    """A `dialogue.LanguageModel`; safe to use from threads."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.name = config.model
        is_local = urllib.parse.urlsplit(config.base_url).hostname in LOOPBACK
        proxies = [urllib.request.ProxyHandler({})] if is_local else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """One after the other; EngineError when the server refuses or stays silent, ReportError for a question."""
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> str:
        body = {
            "model": self.config.model,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question.text}],
            "max_tokens": question.most_tokens,
            "temperature": 0,
        }
        return self._read(self._post(json.dumps(body).encode()))

    def _post(self, body: bytes) -> bytes:
        wait_s, reason = self.config.wait_s, ""
        for attempt in range(self.config.retries + 1):
            if attempt:
                time.sleep(min(wait_s, LONGEST_WAIT_S))
                wait_s *= 2
            try:
                with self._opener.open(self._request(body), timeout=self.config.timeout_s) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as error:
                reason = self._refusal(error)
            except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
                reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise EngineError(
            f"{self.config.base_url} did not answer ({reason}, asked {self.config.retries + 1} times). Is the server "
            "running? What was answered so far is kept: run the same command again."
        )

    def _request(self, body: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.config.key:
            headers["Authorization"] = f"Bearer {self.config.key}"
        return urllib.request.Request(self.config.base_url.rstrip("/") + "/chat/completions", body, headers)

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        """Why a busy server gave no answer; an error for one that will not do better."""
        with error:
            said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:200]
        if error.code in BUSY:
            return f"HTTP {error.code}"
        if error.code in UNUSABLE:
            raise ReportError(f"the server cannot use a question about it: HTTP {error.code}, {said}") from error
        advice = {
            401: "Check the key: --key-variable names the environment variable that holds it.",
            403: "Check the key: --key-variable names the environment variable that holds it.",
            404: f"Check --base-url (it ends in /v1 at most servers) and the model {self.config.model!r}.",
        }.get(error.code, "Redirects are not followed: give the final address." if error.code // 100 == 3 else "")
        raise EngineError(f"{self.config.base_url} refused with HTTP {error.code}: {said}. {advice}".strip()) from error

    def _read(self, content: bytes) -> str:
        try:
            choice: Any = json.loads(content)["choices"][0]
            text = choice["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise EngineError(
                f"{self.config.base_url} did not answer in the form of a chat completion (began with "
                f"{content[:60]!r}). Expected an OpenAI-compatible server; check --base-url."
            ) from error
        is_cut = choice.get("finish_reason") == "length"
        return text if isinstance(text, str) and not is_cut else ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses to carry reports and key to an address that nobody named."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None
