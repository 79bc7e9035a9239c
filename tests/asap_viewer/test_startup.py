import inspect
import os
import subprocess
import sys

from asap_viewer.startup import without_stubs

SCRIPT = """
import pathlib
from asap_viewer.startup import without_stubs
with without_stubs():
    import gradio as gr
    class Panel(gr.HTML):
        pass
assert Panel("words").value == "words"
"""


def test_components_work_without_their_stubs(tmp_path):
    module = tmp_path / "panel_of_ours.py"
    module.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", "import panel_of_ours"], cwd=tmp_path, env=_env(), check=False)
    assert done.returncode == 0
    assert not module.with_suffix(".pyi").exists()


def test_files_of_other_things_are_still_found():
    before = inspect.getfile
    with without_stubs():
        assert inspect.getfile(inspect).endswith("inspect.py")
    assert inspect.getfile is before


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
