"""The lists beside the viewer. Each is one `gr.HTML` with a constant template; data arrives as JSON props only.

Nothing a user or a file wrote is ever part of a template: the scripts in static/ put it on the page as text.
"""

from typing import Any

import gradio as gr

from asap_viewer.viewer import STATIC_DIR


class Panel(gr.HTML):
    """A component drawn by one script of static/; its properties are JSON and its events are named there."""

    template = ""
    script = ""
    empty: dict[str, Any] = {}
    """Every property with the value it has while there is nothing to show."""

    def __init__(self, value: Any = "", **kwargs: Any) -> None:
        code = (STATIC_DIR / self.script).read_text(encoding="utf-8")
        settings = {"html_template": self.template, "js_on_load": code, "apply_default_css": False}
        super().__init__(value, **{**self.empty, **settings, **kwargs})

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


class ReportPanel(Panel):
    """The report's sentences; `legend` says how far to trust the verdicts.

    Events: choose {index}, judge {index, verdict, note}.
    """

    template = '<div class="rp-list" role="listbox" aria-label="Sentences of the report"></div>'
    script = "report_panel.js"
    empty = {"sentences": [], "chosen": 0, "empty": "", "legend": ""}


class HerePanel(Panel):
    """Sentences that speak of the place under the crosshair. Event: choose {index}."""

    template = '<div class="hr-list"></div>'
    script = "here_panel.js"
    empty = {"here": {}}


class OrganPanel(Panel):
    """The organ tree. Events: look {hidden}, jump {number, mm}."""

    template = (
        '<div class="op-bar"><input class="op-filter" type="search" placeholder="Find a structure" '
        'aria-label="Find a structure"><button class="op-all" type="button">show all</button>'
        '<button class="op-none" type="button">hide all</button></div>'
        '<div class="op-tree" role="tree" aria-label="Structures"></div>'
    )
    script = "organ_panel.js"
    empty = {"organs": [], "hidden": [], "empty": ""}


class HitsPanel(Panel):
    """Similar reports."""

    template = '<div class="hp-list"></div>'
    script = "hits_panel.js"
    empty = {"hits": [], "summary": ""}


class AnswersPanel(Panel):
    """Answers with their evidence. Event: jump {mm}."""

    template = '<div class="ap-list"></div>'
    script = "answers_panel.js"
    empty = {"answers": []}


class FindingsPanel(Panel):
    """Findings {name, probability, mm}, most likely first; mm is empty where no place is told. Event: jump {mm}.

    caption says who scored them and what the places are.
    """

    template = '<p class="zp-caption"></p><div class="zp-list"></div>'
    script = "findings_panel.js"
    empty = {"findings": [], "caption": ""}


class FactsPanel(Panel):
    """Rows {label, value, kind: plain | good | warning, href, download}."""

    template = '<div class="fp-list"></div>'
    script = "facts_panel.js"
    empty = {"rows": []}


class SeriesPanel(Panel):
    """Series {id, description, modality, slices, spacing, usable, reason, chosen}. Event: choose {id}."""

    template = '<div class="sp-list"></div>'
    script = "series_panel.js"
    empty = {"series": []}


class StatusLine(Panel):
    """What the server does now: {kind: idle | work | error, message, fraction, seconds}. Event: cancel {}."""

    template = (
        '<div class="sl" role="status"><span class="sl-bar"><i></i></span><span class="sl-words"></span>'
        '<button class="sl-cancel" type="button" title="Stop; what was there before stays">Cancel</button></div>'
    )
    script = "status_line.js"
    empty = {"status": {"kind": "idle", "message": "Ready", "fraction": 0, "seconds": 0}}


class TabBar(Panel):
    """Chooses the section of the side panel that is seen; sections are columns of the class asap-tab-ID."""

    template = '<div class="tb" role="tablist"></div>'
    script = "tab_bar.js"
    empty = {"tabs": []}
