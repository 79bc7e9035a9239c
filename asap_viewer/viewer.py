"""The viewer component: constant template, small JSON in, two events out; JavaScript in static/ does the drawing."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

STATIC_DIR = Path(__file__).parent / "static"

STATIC_PATH = "asap/static"
"""Where the server puts `STATIC_DIR`, below the page's own address."""

TEMPLATE = '<div class="asap-viewer"><div class="ctv-wait" role="status">loading viewer…</div></div>'

CSS = """
.asap-viewer { background: #0b0e13; color: #c9d1dc; border-radius: 10px; min-height: 420px; }
.ctv-wait { padding: 24px; font: 14px system-ui, sans-serif; }
"""

# Watches are registered before anything is awaited, or an early update would be lost. Gradio looks for the quoted
# event names in this text. Nothing here builds HTML from data.
JS = """
const root = element.querySelector('.asap-viewer');
const page = (window.gradio_config && window.gradio_config.root) || document.baseURI;
const base = new URL(page.endsWith('/') ? page : page + '/', document.baseURI);
const send = {
  crosshair: (d) => trigger('crosshair', d), ready: (d) => trigger('ready', d), looked: (d) => trigger('looked', d),
};
const viewer = import(new URL('asap/static/viewer.js', base).href).then((m) => m.mountViewer(root, base, send));
for (const name of ['scan', 'heat', 'place', 'look']) {
  const pass = () => viewer.then((v) => v.receive(name, structuredClone(props[name] ?? null)));
  watch(name, pass);
  pass();
}
viewer.catch((error) => {
  const line = root.querySelector('.ctv-wait') || root.appendChild(document.createElement('div'));
  line.textContent = 'The viewer could not start: ' + error.message + '. Reload the page.';
});
"""


class CTViewer(gr.HTML):
    """Three linked planes of a CT with masks and heat.

    Properties: scan and heat (see `asap_viewer.layers`), place, look; set them with the functions below. None may be
    a word of JavaScript such as "case": Gradio evaluates its templates in functions with these as parameters.
    Events: crosshair {mm, voxel, hu, organ (spoken), name, number, heat, source: "user" or "goto"} 120 ms after it
    rests; ready {id} when the first slices are drawn; looked {hidden: [numbers]} when a person hides organs here.
    """

    def __init__(self, value: Any = None, *, scan: dict | None = None, **kwargs: Any) -> None:
        settings = {"html_template": TEMPLATE, "css_template": CSS, "js_on_load": JS, "apply_default_css": False}
        super().__init__(value, **{"heat": None, "place": None, "look": None, **settings, **kwargs, "scan": scan})

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


def show_case(scan: dict | None) -> dict:
    """Update of the viewer: open this case (made by `CTLayers.prop`), or none."""
    return {**gr.update(scan=scan), **show_heat(None)}


def keep_case(scan: dict) -> dict:
    """Update: the same CT with new organ masks; place, looks and heat stay."""
    return gr.update(scan=scan)


def show_heat(prop: dict | None, label: str = "", **more: Any) -> dict:
    """Update: lay this heat map (made by `Layer.prop`) over the CT, or take it away.

    more: words (what kept it), raw (the same for its raw twin, None where both are one), peaks ({"kept": (3,) RAS mm,
    "raw": (3,)}). Which of the two is drawn is the person's choice, and stays.
    Gradio does not hand a property on that becomes None: an address of nothing stands for no heat.
    """
    return gr.update(heat={**(prop or {"url": ""}), **more, "label": label, "n": time.time_ns()})


def go_to(point_mm: Sequence[float]) -> dict:
    """Update: move the crosshair to a patient point (3,) in RAS mm. Works again with the same point."""
    return gr.update(place={"mm": [float(value) for value in point_mm], "n": time.time_ns()})


def jump(event: gr.EventData) -> dict:
    """Handler of a panel's jump {mm}: move the crosshair to where it points."""
    return go_to(event.mm)


def look_at(**wishes: Any) -> dict:
    """Update: how it looks.

    preset ("lung", "mediastinum", "bone", "abdomen") or window [width_hu, level_hu]; hidden (label numbers), solo
    (label number, 0 = all); outline, masks, show_heat (bool); fill_opacity, heat_opacity, heat_threshold in [0, 1].
    """
    return gr.update(look={**wishes, "n": time.time_ns()})
