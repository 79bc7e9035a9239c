"""Blocks whose handlers may yield as fast as they like.

Of a generator's second and later updates gradio sends only what differs from the one before, and the browser applies
that in place: an update that still waits there for its turn changes under its hands. Two yields in a row, a slow
browser, and the first is lost (seen with gradio 6.31: the organ list stayed empty in one of eight loads).
"""

from typing import Any

import gradio as gr


class WholeUpdates(gr.Blocks):
    """`gr.Blocks` that sends every update whole. Ours are small: voxels travel by other ways."""

    def handle_streaming_diffs(
        self,
        block_fn: Any,
        data: list,
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list:
        """Each output's value in the shape of a difference that replaces all there was."""
        is_first = session_hash is None or run is None or run not in self.pending_diff_streams[session_hash]
        values = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format=True)
        if is_first or final or simple_format:
            return values
        return [[["replace", [], value]] for value in values]
