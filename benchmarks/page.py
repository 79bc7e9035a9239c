"""The page as a person meets it: start of the server, first slices, a large CT dropped. Prints JSON.

    python -m benchmarks.page [--large FILE.nii.gz]

`app.py` is started twice and the second start counts (files are in the disk cache by then). The page is opened in
headless Chromium without a GPU; a slice counts as shown when all three planes are painted.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from benchmarks.large_ct import write_large_ct
from benchmarks.machine import figure

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SHOWN = """(title) => {
  const viewer = document.querySelector('.asap-viewer')?.viewer;
  return viewer && viewer.ct && viewer.stage.views.every((view) => view.composed) && !viewer.stage.frame
    && (!title || (viewer.case.title || '').includes(title));
}"""
PATIENCE_MS = 180_000


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Started(NamedTuple):
    """A running app."""

    address: str
    seconds: float  # from starting the process to the page's first answer
    cpu_s: float  # processor time it took, which other work on the machine does not change


@contextmanager
def running_app(data: Path) -> Iterator[Started]:
    """A started app whose page answers."""
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port)]
    began = time.perf_counter()
    log = data / "app.log"
    with log.open("wb") as sink:
        environment = {**os.environ, "ASAP_DATA": str(data)}
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
    try:
        address = f"http://127.0.0.1:{port}/"
        wait_for_answer(address, server, log)
        yield Started(address, time.perf_counter() - began, sum(psutil.Process(server.pid).cpu_times()[:2]))
    finally:
        server.terminate()
        server.wait(20)


def wait_for_answer(address: str, server: subprocess.Popen, log: Path) -> None:
    """Until the page answers with status 200."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                answer.read()
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise SystemExit(f"app.py ended with code {server.returncode}: {log.read_text(encoding='utf-8')[-1500:]}")


def seconds_to_slices(page: "Page", address: str) -> float:
    """From asking for the page to the sample's three planes on screen."""
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_function(SHOWN, arg="", timeout=PATIENCE_MS)
    return time.perf_counter() - began


def seconds_to_dropped(page: "Page", path: Path) -> float:
    """From dropping a file to its three planes on screen."""
    chooser = page.locator('input[type="file"]').first
    began = time.perf_counter()
    chooser.set_input_files(path)
    page.wait_for_function(SHOWN, arg=path.name.split(".")[0], timeout=PATIENCE_MS)
    return time.perf_counter() - began


def measure(large: Path, data: Path) -> list[dict[str, Any]]:
    """Start, load, drop."""
    from playwright.sync_api import sync_playwright

    with running_app(data) as first:
        pass
    with running_app(data) as second, sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        first_load = seconds_to_slices(page, second.address)
        load = seconds_to_slices(page, second.address)
        dropped = seconds_to_dropped(page, large)
        browser.close()
    size_mb = round(large.stat().st_size / 1e6, 1)
    return [
        figure(
            "app start to a page that answers",
            second.seconds,
            6.0,
            "s",
            cpu_s=round(second.cpu_s, 2),
            first_start=round(first.seconds, 2),
        ),
        figure("page load to the sample's slices", load, 3.0, "s", first_load=round(first_load, 2)),
        figure("512x512x300 dropped to its first slice", dropped, 8.0, "s", file_mb=size_mb),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=Path, help="a file of benchmarks.large_ct; made when absent")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = given.large or Path(folder) / "large.nii.gz"
        if not large.exists():
            write_large_ct(large)
        print(json.dumps({"figures": measure(large, Path(folder))}, indent=1))


if __name__ == "__main__":
    main()
