"""Rules about the repository itself that no single module can keep."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "asap_viewer", "trainers")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "cc3d": "connected-components-3d",
    "fill_voids": "fill-voids",
    "faiss": "faiss-cpu",
    "gdcm": "python-gdcm",
    "umap": "umap-learn",
}
"""Module -> name on PyPI, where they differ."""


def imports_of(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def requirements(*names: str) -> dict[str, str]:
    """Distribution in lower case -> its whole line."""
    found = {}
    for name in names:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-r")):
                found[re.split(r"[=<>\[]", line)[0].lower()] = line
    return found


def test_check_runs_every_tool():
    text = (ROOT / "scripts/check").read_text(encoding="utf-8")
    for command in (
        "ruff format --check .",
        "ruff check .",
        "mypy core asap_viewer trainers",
        "lint-imports",
        "pytest",
    ):
        assert f"\n{command}" in text
    assert "set -euo pipefail" in text


def test_ci_runs_the_test_command_of_the_readme():
    command = re.compile(r"^python3 -m venv .*requirements-dev\.txt.*scripts/check$", re.MULTILINE)
    assert len(command.findall((ROOT / "README.md").read_text(encoding="utf-8"))) == 1
    assert "README.md" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_arrows_between_packages_point_one_way():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_nothing_imports_the_app():
    importers = [path for path in ROOT.glob("[!.]*/**/*.py") if "app" in {n.split(".")[0] for n in imports_of(path)}]
    allowed = {ROOT / "tests" / "test_app.py"}
    assert set(importers) <= allowed


def test_core_is_quiet_and_reads_no_environment():
    # TotalSegmentator takes its folders from the environment of the worker process that is started for it.
    speakers = {ROOT / "core/anatomy/totalsegmentator_worker.py"}
    loud = {}
    for path in set(MODULES) - speakers:
        if path.relative_to(ROOT).parts[0] != "core":
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        words = {node.id for node in nodes if isinstance(node, ast.Name)}
        words |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        if found := words & {"print", "environ", "getenv", "manual_seed_all", "set_default_device"}:
            loud[path.name] = found
    assert not loud


def test_every_import_is_in_the_requirements():
    base = requirements("requirements.txt")
    optional = requirements(*[path.name for path in ROOT.glob("requirements-*.txt")])
    missing = set()
    for path in [ROOT / "app.py", *MODULES]:
        for module in {name.split(".")[0] for name in imports_of(path)}:
            if module in sys.stdlib_module_names or module in PACKAGES:
                continue
            wanted = DISTRIBUTIONS.get(module, module).lower()
            if wanted not in base and wanted not in optional:
                missing.add(f"{path.relative_to(ROOT)}: {module}")
    assert not missing


def test_every_requirement_is_pinned():
    names = [path.name for path in ROOT.glob("requirements*.txt")]
    loose = [line for line in requirements(*names).values() if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][^ *]*", line)]
    assert not loose


def test_the_spaces_header_names_the_pinned_gradio_and_the_app():
    header = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    settings = dict(line.split(": ", 1) for line in header.strip().splitlines())
    assert settings["sdk"] == "gradio"
    assert f"gradio=={settings['sdk_version']}" in (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert (ROOT / settings["app_file"]).is_file()


def test_readme_lists_every_file():
    specification = importlib.util.spec_from_file_location("file_tree", ROOT / "scripts/file_tree.py")
    tree = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tree)
    assert tree.listed_tree() == tree.project_tree(), "run: python scripts/file_tree.py --write"


def test_readme_names_no_missing_file():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_page_starts_and_opens_a_sample_without_heavy_libraries():
    """Six seconds to a page that answers leave no room for importing torch, which nothing on it needs yet."""
    code = """
import sys
from asap_viewer.page import build_page
from asap_viewer.served import VolumeServer
from asap_viewer.services import Services
from asap_viewer.settings import Settings
services = Services(Settings(), VolumeServer())
build_page(services)
services.open_sample(services.samples()[0].id)
heavy = {"torch", "transformers", "SimpleITK", "skimage", "faiss", "highdicom", "accelerate"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
