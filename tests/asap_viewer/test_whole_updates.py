"""Handlers that yield faster than a browser draws: every update must arrive."""

import gradio as gr
import pytest
from viewer_harness import CHROMIUM, FLAGS, serve_blocks

from asap_viewer.panels import FactsPanel
from asap_viewer.served import VolumeServer
from asap_viewer.whole_updates import WholeUpdates

PANELS = 12
CLICK_AND_BE_BUSY = """() => {
  document.querySelector('#fill').click();
  const began = Date.now();
  setTimeout(() => { while (Date.now() - began < 1500); }, 100);
}"""
"""All updates wait in the browser before it looks at the first."""


def build_hasty_page() -> gr.Blocks:
    """A button that fills one panel after the other, with nothing in between."""
    with WholeUpdates() as page:
        panels = [FactsPanel() for _ in range(PANELS)]
        button = gr.Button("Fill", elem_id="fill")
        late = gr.Dropdown([], visible="hidden")

        def fill():
            yield {late: gr.update(choices=["a"], value="a", visible=True)}
            for number, panel in enumerate(panels):
                yield {panel: gr.update(rows=[{"label": f"panel {number}", "value": "filled"}])}

        button.click(fill, None, [*panels, late], show_progress="hidden")
    return page


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium")
def test_no_update_is_lost_however_fast_they_follow():
    from playwright.sync_api import sync_playwright

    with serve_blocks(build_hasty_page(), VolumeServer()) as (url, _), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#fill")
        page.evaluate(CLICK_AND_BE_BUSY)
        page.wait_for_function(f"document.body.innerText.includes('panel {PANELS - 1}')", timeout=20_000)
        page.wait_for_timeout(300)
        shown = page.locator(".fp-list").all_inner_texts()
        browser.close()
    assert [number for number, text in enumerate(shown) if "filled" not in text] == []
    assert len(shown) == PANELS


def test_later_updates_replace_what_there_was_and_the_last_is_told_as_it_is():
    page = build_hasty_page()
    fill = next(iter(page.fns.values()))
    say = [{"rows": number, "__type__": "update"} for number in range(3)]
    sent = [
        page.handle_streaming_diffs(fill, [value] * (PANELS + 1), "someone", "a run", final=False)[0] for value in say
    ]
    assert sent == [say[0], [["replace", [], say[1]]], [["replace", [], say[2]]]]
    assert page.handle_streaming_diffs(fill, [None] * (PANELS + 1), "someone", "a run", final=True)[0] == say[2]
