"""A page with nothing but the viewer, served on a free port, and a browser to look at it with."""

import base64
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import uvicorn

from asap_viewer.layers import ct_layers, heat_layer, label_layer
from asap_viewer.privacy import keep_quiet
from asap_viewer.served import ServedLimits, VolumeServer
from asap_viewer.server import ServerConfig, build_app, owner_of
from asap_viewer.viewer import CTViewer, go_to, look_at, show_case, show_heat
from core.anatomy.masks import OrganMasks
from core.volume import Volume

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()


@dataclass
class Scene:
    """What the page shows."""

    volume: Volume
    masks: OrganMasks | None = None
    heat: np.ndarray | None = None
    """(X, Y, Z) in [0, 1] on the volume's grid."""
    first_voxels: int = 20_000_000
    title: str = "test case"


@dataclass
class Running:
    """A page that answers, and what it heard."""

    url: str
    served: VolumeServer
    events: list[dict[str, Any]]
    answers: list[tuple[str, int]]
    """(path, HTTP status) of every answer."""

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + 5
        while len(self.events) < count and time.monotonic() < end:
            time.sleep(0.02)

    def wait_for_event(self, first: int, hu: int) -> dict[str, Any]:
        """The first event from number `first` on that tells of `hu`; where the page opened may be heard of before."""
        end = time.monotonic() + 5
        while True:
            found = [event for event in self.events[first:] if event.get("hu") == hu]
            if found:
                return found[0]
            assert time.monotonic() < end, f"no event with {hu} HU: {self.events[first:]}"
            time.sleep(0.02)


def build_viewer_page(scenes: dict[str, Scene], served: VolumeServer, heard: list[dict[str, Any]]) -> gr.Blocks:
    """The first scene opens with the page. Wishes: "open NAME", "goto X Y Z", "look {...}", "heat"."""
    layers = {name: ct_layers(scene.volume, scene.first_voxels) for name, scene in scenes.items()}
    labels = {name: label_layer(scene.masks, scene.volume) for name, scene in scenes.items() if scene.masks}

    count = itertools.count(1)

    def prop_of(name: str, request: gr.Request) -> dict:
        owner = owner_of(request)
        scene = scenes[name]
        return layers[name].prop(lambda blob: served.publish(blob, owner), scene.title, labels.get(name), scene.masks)

    def heat_of(name: str, request: gr.Request) -> dict:
        owner = owner_of(request)
        layer = heat_layer(scenes[name].heat, scenes[name].volume.grid, scenes[name].volume)
        return layer.prop(lambda blob: served.publish(blob, owner))

    def take_wish(text: str, request: gr.Request) -> tuple[dict, str]:
        kind, _, rest = text.partition(" ")
        wishes = {
            "open": lambda: show_case(prop_of(rest, request)),
            "goto": lambda: go_to([float(number) for number in rest.split()]),
            "look": lambda: look_at(**json.loads(rest)),
            "heat": lambda: show_heat(heat_of(rest, request), "a sentence <img src=x onerror=alert(1)> ${1+1}"),
        }
        return wishes[kind](), str(next(count))

    def open_first(request: gr.Request) -> dict:
        return show_case(prop_of(next(iter(scenes)), request))

    def hear(event: gr.EventData) -> None:
        heard.append(dict(event._data))

    with gr.Blocks(title="viewer alone") as page:
        viewer = CTViewer()
        wish = gr.Textbox(label="wish", elem_id="wish")
        done = gr.Textbox(label="done", elem_id="done")
        page.load(open_first, None, viewer)
        wish.submit(take_wish, wish, [viewer, done])
        viewer.crosshair(hear, None, None, show_progress="hidden", trigger_mode="always_last")
    return page


def keep_answers(app: Any, answers: list[tuple[str, int]]) -> Any:
    """The app with a list of what it answered."""

    async def noted(scope: dict, receive: Any, send: Any) -> None:
        async def send_noted(message: dict) -> None:
            if message["type"] == "http.response.start":
                answers.append((scope["path"], message["status"]))
            await send(message)

        await app(scope, receive, send_noted)

    return noted


@contextmanager
def serve_scenes(scenes: dict[str, Scene], limits: ServedLimits | None = None, path: str = "/") -> Iterator[Running]:
    served = VolumeServer(limits or ServedLimits())
    heard: list[dict[str, Any]] = []
    with serve_blocks(build_viewer_page(scenes, served, heard), served, path) as (url, answers):
        yield Running(url, served, heard, answers)


@contextmanager
def serve_blocks(
    page: gr.Blocks, served: VolumeServer, path: str = "/", **looks: Any
) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Serve a page on a free port; gives its address and the list of what it answers."""
    keep_quiet(os.environ)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers: list[tuple[str, int]] = []
    app = keep_answers(build_app(page, served, ServerConfig(port=port, path=path), **looks), answers)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}{path}", answers
    finally:
        server.should_exit = True
        thread.join(5)


def wish(page: Any, text: str) -> None:
    """Ask for something on the page and wait until the viewer has drawn it."""
    before = page.locator("#done textarea, #done input").input_value()
    field = page.locator("#wish textarea, #wish input")
    field.fill(text)
    field.press("Enter")
    page.wait_for_function(
        "(before) => document.querySelector('#done textarea, #done input').value !== before", arg=before, timeout=60000
    )
    settle(page)


def settle(page: Any) -> None:
    """Wait until what is due is drawn."""
    page.evaluate(
        "() => new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 20))"
    )


def wait_shown(page: Any) -> None:
    """Wait until the CT and its labels are on screen."""
    page.wait_for_function(
        "() => { const v = document.querySelector('.asap-viewer')?.viewer;"
        " return v && v.ct && (!v.case.labels || v.labels) && v.stage.views[0].composed && !v.stage.frame }",
        timeout=60000,
    )
    settle(page)


def viewer_value(page: Any, expression: str) -> Any:
    """Value of a JavaScript expression in which `v` is the viewer and `view(kind)` one of its planes."""
    return page.evaluate(
        "() => { const v = document.querySelector('.asap-viewer').viewer;"
        " const view = (kind) => v.stage.views.find((one) => one.plane.kind === kind);"
        f" return {expression} }}"
    )


def pixels(page: Any, kind: str, layer: str = "picture") -> np.ndarray:
    """What a plane's canvas holds: (H, W, 4) uint8."""
    text, width, height = page.evaluate(
        "([kind, layer]) => { const v = document.querySelector('.asap-viewer').viewer;"
        " const c = v.stage.views.find((one) => one.plane.kind === kind)[layer];"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let s = ''; for (let i = 0; i < d.length; i += 8192) s += String.fromCharCode(...d.subarray(i, i + 8192));"
        " return [btoa(s), c.width, c.height] }",
        [kind, layer],
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
