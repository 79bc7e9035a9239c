"""The Organs tab: the tree with eyes, volumes and mean HU; the engine that made the masks; a 3-D view."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from asap_viewer.flow import find_case_organs
from asap_viewer.panels import FactsPanel, OrganPanel
from asap_viewer.parts import Handlers, Parts, Updates, ready, shows_errors
from asap_viewer.plots import draw_surfaces
from asap_viewer.server import owner_of
from asap_viewer.services import Services
from asap_viewer.viewer import jump, look_at
from asap_viewer.workflow import groundings_of
from core.errors import StudyError


@dataclass(frozen=True, eq=False)
class OrgansTab:
    """Components of the tab."""

    segmenter: gr.Dropdown
    find: gr.Button
    badge: FactsPanel
    organs: OrganPanel
    draw: gr.Button
    surfaces: gr.Plot


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
    return OrgansTab(segmenter, find, badge, organs, draw, surfaces)


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
    tab.draw.click(do.draw, [parts.token, parts.engine], [tab.surfaces, parts.status], **quiet)
