"""The Ask tab: a question, an answer, its evidence, and a jump to where it was seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from asap_viewer.panels import AnswersPanel
from asap_viewer.parts import Handlers, Parts, Updates, ready, shows_errors, told
from asap_viewer.services import Services
from asap_viewer.viewer import jump
from asap_viewer.words import answer_row
from asap_viewer.workflow import ask_case
from core.progress import Progress
from core.vqa.evidence import Answer

EXAMPLES = (
    "Is there a lung nodule?",
    "Where is the nodule?",
    "How large is the nodule?",
    "Is there a pleural effusion?",
    "Which lung is smaller?",
    "What is the volume of the heart?",
)
MOST_ANSWERS = 20


@dataclass(frozen=True, eq=False)
class AskTab:
    """Components of the tab."""

    question: gr.Textbox
    ask: gr.Button
    answers: AnswersPanel


def lay_out() -> AskTab:
    """The tab's components, in reading order."""
    with gr.Row():
        question = gr.Textbox(label="Question about this CT", placeholder=EXAMPLES[0], scale=4, max_length=500)
        ask = gr.Button("Ask", variant="primary", size="sm", scale=1, min_width=70)
    gr.Examples([[example] for example in EXAMPLES], question, label="For example")
    return AskTab(question, ask, AnswersPanel())


@dataclass(frozen=True, eq=False)
class AskHandlers(Handlers):
    """Questions."""

    tab: AskTab

    @shows_errors
    def ask(self, token: str, question: str, engine: str) -> Iterator[Updates]:
        """Answer from masks, heat maps and the report, newest first."""
        session = self.services.sessions.get(token)
        case = session.require_case()

        def work(progress: Progress) -> Answer:
            return ask_case(case, lambda: self.services.engine(engine), question, progress)

        answer = yield from told(self.parts, work, session.begin_side_job())
        session.answers = [answer_row(question, answer), *session.answers][:MOST_ANSWERS]
        yield {self.tab.answers: gr.update(answers=session.answers), self.parts.status: ready()}


def wire(tab: AskTab, parts: Parts, services: Services) -> None:
    """Connect the tab."""
    do = AskHandlers(services, parts, tab)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for trigger in (tab.ask.click, tab.question.submit):
        trigger(do.ask, [parts.token, tab.question, parts.engine], [tab.answers, parts.status], **quiet)
    tab.answers.jump(jump, None, parts.viewer, queue=False, **quiet)
