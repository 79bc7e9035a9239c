"""The lists beside the viewer. Each is one `gr.HTML` with a constant template; data arrives as JSON props only."""

from pathlib import Path
from typing import Any

import gradio as gr

STATIC = Path(__file__).parent / "static"


def _script(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


class ReportPanel(gr.HTML):
    """The report's sentences. Props: sentences, chosen, empty. Events: choose {index}, judge {index, verdict, note}."""

    def __init__(self, **props: Any) -> None:
        super().__init__(
            value="",
            html_template='<div class="rp-list" role="listbox" aria-label="Sentences of the report"></div>',
            js_on_load=_script("report_panel.js"),
            apply_default_css=False,
            **({"sentences": [], "chosen": 0, "empty": ""} | props),
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


class OrganPanel(gr.HTML):
    """The organ tree. Props: organs, hidden, empty. Events: look {hidden}, jump {number, mm}."""

    def __init__(self, **props: Any) -> None:
        super().__init__(
            value="",
            html_template=(
                '<div class="op-bar"><input class="op-filter" type="search" placeholder="Find a structure" '
                'aria-label="Find a structure"><button class="op-all" type="button">all</button>'
                '<button class="op-none" type="button">none</button></div>'
                '<div class="op-tree" role="tree" aria-label="Structures"></div>'
            ),
            js_on_load=_script("organ_panel.js"),
            apply_default_css=False,
            **({"organs": [], "hidden": [], "empty": ""} | props),
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


class HitsPanel(gr.HTML):
    """Similar reports. Props: hits, summary."""

    def __init__(self, **props: Any) -> None:
        super().__init__(
            value="",
            html_template='<div class="hp-list"></div>',
            js_on_load=_script("hits_panel.js"),
            apply_default_css=False,
            **({"hits": [], "summary": ""} | props),
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}
