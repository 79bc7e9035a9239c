"""A page with nothing but the viewer, served on a free port, and a browser to look at it with."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import uvicorn

from asap_viewer.layers import ct_layers, heat_layer, label_layer
from asap_viewer.privacy import keep_quiet
from asap_viewer.served import Owner, ServedLimits, VolumeServer
from asap_viewer.server import ServerConfig, build_app, owner_of
from asap_viewer.viewer import CTViewer, go_to, look_at, show_heat
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
    path: str = "/"


@dataclass
class Running:
    """A page that answers, and what it heard."""

    url: str
    served: VolumeServer
    events: list[dict[str, Any]] = field(default_factory=list)

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + 5
        while len(self.events) < count and time.monotonic() < end:
            time.sleep(0.02)


def build_viewer_page(scene: Scene, served: VolumeServer, heard: list[dict[str, Any]]) -> gr.Blocks:
    layers = ct_layers(scene.volume)
    labels = label_layer(scene.masks, scene.volume) if scene.masks else None
    heat = heat_layer(scene.heat, scene.volume.grid, scene.volume) if scene.heat is not None else None

    def publish_for(owner: Owner):
        return lambda blob: served.publish(blob, owner)

    with gr.Blocks(title="viewer alone") as page:
        viewer = CTViewer()
        wish = gr.Textbox(label="go to", elem_id="wish")
        heat_button = gr.Button("lay heat", elem_id="heat-on")

        def open_case(request: gr.Request):
            publish = publish_for(owner_of(request))
            return gr.update(scan=layers.prop(publish, "test case", labels, scene.masks))

        def lay_heat(request: gr.Request):
            prop = heat.prop(publish_for(owner_of(request))) if heat else None
            return show_heat(prop, "a sentence <b>with markup</b> ${1+1}")

        def take_wish(text: str):
            kind, _, rest = text.partition(" ")
            if kind == "look":
                return look_at(**eval(rest, {}))
            return go_to([float(number) for number in rest.split()])

        def hear(event: gr.EventData):
            heard.append(dict(event._data))

        page.load(open_case, None, viewer)
        heat_button.click(lay_heat, None, viewer)
        wish.submit(take_wish, wish, viewer)
        viewer.crosshair(hear, None, None, show_progress="hidden", trigger_mode="always_last")
    return page


@contextmanager
def serve_scene(scene: Scene, limits: ServedLimits | None = None) -> Iterator[Running]:
    keep_quiet(os.environ)
    served = VolumeServer(limits or ServedLimits())
    heard: list[dict[str, Any]] = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = ServerConfig(port=port, path=scene.path)
    app = build_app(build_viewer_page(scene, served, heard), served, config)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield Running(f"http://127.0.0.1:{port}{scene.path}", served, heard)
    finally:
        server.should_exit = True
        thread.join(5)


def shown(page: Any) -> None:
    """Wait until the CT and its labels are on screen."""
    page.wait_for_function(
        "() => { const v = document.querySelector('.asap-viewer')?.viewer;"
        " return v && v.ct && (!v.case.labels || v.labels) && v.stage.views[0].composed }",
        timeout=20000,
    )
    page.wait_for_timeout(100)
