"""The page: the viewer on the left and in sight, everything else beside it."""

from dataclasses import dataclass

import gradio as gr

from asap_viewer import tab_ask, tab_export, tab_open, tab_organs, tab_report, tab_similar
from asap_viewer.panels import FactsPanel, StatusLine, TabBar
from asap_viewer.parts import Parts
from asap_viewer.services import Services
from asap_viewer.viewer import STATIC_DIR, CTViewer
from asap_viewer.whole_updates import WholeUpdates
from asap_viewer.words import engine_rows

TITLE = "ASAP Viewer"
HEADER = """
<div class="asap-bar"><h1>ASAP Viewer</h1>
<span class="asap-say">Where in the scan each sentence of the report lives</span>
<span class="asap-only">Research use only · not a medical device · nothing leaves this machine</span></div>
"""
ALWAYS_DARK = "() => { document.body.classList.add('dark'); }"


def page_looks() -> dict[str, object]:
    """Theme, style sheet and start script for the server that mounts the page."""
    theme = gr.themes.Base(
        primary_hue="sky",
        neutral_hue="slate",
        font=["system-ui", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    return {"theme": theme, "css": (STATIC_DIR / "page.css").read_text(encoding="utf-8"), "js": ALWAYS_DARK}


def build_page(services: Services) -> gr.Blocks:
    """Lay out the page and connect it. Loading it opens the first sample."""
    with WholeUpdates(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(1800, 3600)) as page:
        token = gr.State("")
        gr.HTML(HEADER)
        with gr.Row():
            with gr.Column(scale=8, min_width=520, elem_classes="asap-stage"):
                status, viewer = StatusLine(), CTViewer()
            with gr.Column(scale=5, min_width=380, elem_classes="asap-side"):
                tabs = lay_out_tabs(services)
        parts = parts_of_page(token, viewer, status, tabs)
        tab_open.wire(tabs.opening, parts, services, page)
        tab_report.wire(tabs.report, parts, services)
        tab_organs.wire(tabs.organs, parts, services)
        tab_similar.wire(tabs.similar, parts, services)
        tab_ask.wire(tabs.asking, parts, services)
        tab_export.wire(tabs.export, parts, services)
        page.unload(services.end_page)
    page.queue(default_concurrency_limit=8)
    return page


@dataclass(frozen=True, eq=False)
class PageTabs:
    """The tabs beside the viewer."""

    report: tab_report.ReportTab
    opening: tab_open.OpenTab
    organs: tab_organs.OrgansTab
    similar: tab_similar.SimilarTab
    asking: tab_ask.AskTab
    export: tab_export.ExportTab


TABS = {
    "report": "Report",
    "open": "Open",
    "organs": "Organs",
    "similar": "Similar",
    "ask": "Ask",
    "export": "Export",
    "engines": "Engines",
}
"""Sections of the side panel, in the order in which a case is worked on. page.css shows the chosen one."""


def lay_out_tabs(services: Services) -> PageTabs:
    """The sections beside the viewer."""
    TabBar(tabs=[{"id": key, "label": label} for key, label in TABS.items()])
    with _section("report"):
        report = tab_report.lay_out(services)
    with _section("open"):
        opening = tab_open.lay_out(services)
    with _section("organs"):
        organs = tab_organs.lay_out(services)
    with _section("similar"):
        similar = tab_similar.lay_out()
    with _section("ask"):
        asking = tab_ask.lay_out()
    with _section("export"):
        export = tab_export.lay_out()
    with _section("engines"):
        FactsPanel(rows=engine_rows(services.engine_states()))
    return PageTabs(report, opening, organs, similar, asking, export)


def _section(key: str) -> gr.Column:
    return gr.Column(elem_classes=["asap-tab", f"asap-tab-{key}"])


def parts_of_page(token: gr.State, viewer: CTViewer, status: StatusLine, tabs: PageTabs) -> Parts:
    """The components that more than one tab shows or changes."""
    return Parts(
        token=token,
        viewer=viewer,
        status=status,
        receipt=tabs.opening.receipt,
        series=tabs.opening.series,
        fix_hu=tabs.opening.fix_hu,
        report_text=tabs.report.text,
        sentences=tabs.report.sentences,
        here=tabs.report.here,
        organs=tabs.organs.organs,
        badge=tabs.organs.badge,
        answers=tabs.asking.answers,
        findings=tabs.report.findings,
        matrix=tabs.report.matrix,
        distances=tabs.organs.distances,
        engine=tabs.report.engine,
        segmenter=tabs.organs.segmenter,
    )
