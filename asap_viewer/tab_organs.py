"""The Organs tab: the tree with eyes, volumes and mean HU; the engine that made the masks; a 3-D view."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from asap_viewer.flow import find_case_organs
from asap_viewer.layers import heat_layer
from asap_viewer.panels import FactsPanel, OrganPanel
from asap_viewer.parts import Handlers, Parts, Updates, ready, shows_errors, told
from asap_viewer.plots import draw_surfaces
from asap_viewer.server import owner_of
from asap_viewer.services import Services
from asap_viewer.viewer import go_to, jump, look_at, show_heat
from asap_viewer.words import normality_rows
from asap_viewer.workflow import groundings_of
from core.errors import StudyError
from core.grounding.normality import NormalityMap, draw_normality, require_normality, summarise_normality
from core.progress import Progress

NORMALITY = "distance from normal organs, 1 = the farthest place in this CT"


@dataclass(frozen=True, eq=False)
class OrgansTab:
    """Components of the tab."""

    segmenter: gr.Dropdown
    find: gr.Button
    badge: FactsPanel
    organs: OrganPanel
    draw: gr.Button
    surfaces: gr.Plot
    judge: gr.Dropdown
    compare: gr.Button
    distances: FactsPanel


def lay_out(services: Services) -> OrgansTab:
    """The tab's components, in reading order."""
    with gr.Row():
        names = services.segmenter_names()
        segmenter = gr.Dropdown(names, value=names[0], label="Masks by", scale=2)
        find = gr.Button("Find organs again", size="sm", scale=1, min_width=130)
    organs = OrganPanel(empty="No organ masks yet.")
    badge = FactsPanel()
    with gr.Accordion("Organs in 3-D", open=False):
        draw = gr.Button("Draw surfaces", size="sm")
        surfaces = gr.Plot(show_label=False)
    judges = services.normality_names()
    with gr.Accordion("Distance from normal organs", open=False, visible=bool(judges)):
        judge = gr.Dropdown(judges, value=judges[0] if judges else None, label="Normal organs by")
        compare = gr.Button("Compare", size="sm")
        distances = FactsPanel()
    return OrgansTab(segmenter, find, badge, organs, draw, surfaces, judge, compare, distances)


@dataclass(frozen=True, eq=False)
class OrganHandlers(Handlers):
    """Masks, and how they are looked at."""

    tab: OrgansTab

    @shows_errors
    def find(self, token: str, segmenter: str, request: gr.Request) -> Iterator[Updates]:
        """Segment the open case with the chosen engine."""
        session = self.services.sessions.get(token)
        session.begin_job()
        yield from find_case_organs(self.services, self.parts, session, segmenter, owner_of(request))

    @shows_errors
    def draw(self, token: str, engine: str) -> Iterator[Updates]:
        """Draw the organs as surfaces, with the chosen sentence's peak."""
        session = self.services.sessions.get(token)
        case = session.require_case()
        if case.masks is None or not case.masks.numbers():
            raise StudyError("This CT has no organ masks yet. Press “Find organs again” first.")
        yield {self.parts.status: ready("Drawing surfaces…")}
        chosen = [one for one in groundings_of(case, engine) if one.index == session.chosen]
        peak = chosen[0].peak_ras_mm if chosen else None
        yield {self.tab.surfaces: draw_surfaces(case.volume, case.masks, peak), self.parts.status: ready()}

    @shows_errors
    def compare(self, token: str, engine: str, request: gr.Request) -> Iterator[Updates]:
        """Show how far each place of the organs is from normal, as heat, and where that is most."""
        session = self.services.sessions.get(token)
        case = session.require_case()

        def work(progress: Progress) -> NormalityMap:
            judge = require_normality(self.services.engine(engine))
            return judge.measure_normality(case.volume, case.masks, progress)

        yield {self.tab.distances: gr.update(rows=[])}
        found = yield from told(self.parts, work, session.begin_side_job())
        assert case.masks is not None  # or it would have been refused
        drawn, told_of = draw_normality(found, case.volume, case.masks), summarise_normality(found)
        layer = heat_layer(drawn / max(float(drawn.max()), 1e-9), case.volume.grid, case.volume)
        heat = layer.prop(lambda blob: self.services.served.publish(blob, owner_of(request)))
        farthest = max(told_of.values(), key=lambda one: one.highest)
        yield {
            self.parts.viewer: {**show_heat(heat, f"{NORMALITY} · by {engine}"), **go_to(farthest.peak_ras_mm)},
            self.tab.distances: gr.update(rows=normality_rows(told_of)),
            self.parts.status: ready(f"{engine} compared {len(told_of)} organs with normal ones"),
        }


def look(event: gr.EventData) -> Any:
    """Hide what the tree's eyes say."""
    return look_at(hidden=list(event.hidden))


def follow_viewer(event: gr.EventData) -> Any:
    """Show in the tree what a person hid inside the viewer."""
    return gr.update(hidden=list(event.hidden))


def wire(tab: OrgansTab, parts: Parts, services: Services) -> None:
    """Connect the tab."""
    do = OrganHandlers(services, parts, tab)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    outputs = [parts.viewer, parts.status, parts.organs, parts.badge]
    tab.find.click(do.find, [parts.token, tab.segmenter], outputs, **quiet)
    tab.organs.look(look, None, parts.viewer, queue=False, trigger_mode="always_last", **quiet)
    parts.viewer.looked(follow_viewer, None, tab.organs, queue=False, trigger_mode="always_last", **quiet)
    tab.organs.jump(jump, None, parts.viewer, queue=False, **quiet)
    compared = [parts.viewer, parts.status, tab.distances]
    tab.compare.click(do.compare, [parts.token, tab.judge], compared, **quiet)
    tab.draw.click(do.draw, [parts.token, parts.engine], [tab.surfaces, parts.status], **quiet)
