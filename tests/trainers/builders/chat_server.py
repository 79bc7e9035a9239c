"""A small chat-completion server for tests: it answers the builders' questions by looking for words."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ABNORMAL = ("nodule", "hernia", "effusion")


def answer_by_words(question: str) -> str:
    """What a careful reader would answer, for reports of short sentences that name their organ."""
    report = re.search(r"<report>\n(.*)\n</report>", question, re.DOTALL)[1]
    if "number | region" in question:
        return "\n".join(filter(None, map(_line, report.splitlines()))) or "none"
    if "finding by finding" in question:
        return "\n".join(f"There is {word}." for word in ABNORMAL if word in report.lower()) or "none"
    return _answer_about_organ(question, re.split(r"(?<=\.)\s+", report))


def _answer_about_organ(question: str, sentences: list[str]) -> str:
    organ = re.search(r"(?:about|is) the (\w+)(?:\?| normal|\. Keep)", question)[1]
    about = " ".join(sentence for sentence in sentences if organ in sentence.lower())
    if "yes or no" in question:
        return "Yes." if about else "No."
    if "Copy from" in question:
        return f"{organ}: {about}"
    return "Abnormal" if any(word in about.lower() for word in ABNORMAL) else "normal"


def _line(numbered: str) -> str:
    number, _, sentence = numbered.partition(". ")
    found = [word for word in ABNORMAL if word in sentence.lower()]
    existence = "absent" if sentence.startswith("No ") else "present"
    return f"{number} | left lung | {found[0]} | {existence}" if found else ""


class ChatServer:
    """What the server was asked, and how it shall answer."""

    def __init__(self, reply: Callable[[str], str] = answer_by_words) -> None:
        self.reply = reply
        self.questions: list[str] = []
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.failures: list[int] = []  # status codes that are given first, one per request
        self.raw: bytes | None = None  # what is sent instead of a completion
        self.finish = "stop"
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["ChatServer"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, path: str, body: dict, key: str | None) -> tuple[int, bytes]:
        with self.lock:
            if self.failures:
                return self.failures.pop(0), b"try later"
            self.bodies.append(body)
            self.keys.append(key)
            self.questions.append(body["messages"][-1]["content"])
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.delay_s)
        with self.lock:
            self.at_once -= 1
        if path != "/v1/chat/completions":
            return 404, b"no such path"
        if self.raw is not None:
            return 200, self.raw
        choice = {"message": {"content": self.reply(body["messages"][-1]["content"])}, "finish_reason": self.finish}
        return 200, json.dumps({"choices": [choice]}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code, content = chat.answer(self.path, body, self.headers.get("Authorization"))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args: object) -> None:
                pass

        return Handler
