"""How long the viewer takes to draw all three planes: `python -m benchmarks.viewer_frames [--side 256]` prints JSON.

In headless Chromium without a GPU, every frame moves all three planes by a slice, with organ masks filled and
outlined and a heat map over them. draw_ms is the time inside our code; frame_ms the time from one frame to the next,
which also holds the browser's own painting; idle_frame_ms that of a page that only asks for frames. Those are times
on the clock, so a busy machine measures its load. cpu_ms is what the page's main thread itself used per frame.
"""

import argparse
import json
import os
from typing import Any

import numpy as np

from core.anatomy.masks import OrganMasks
from core.structures import STRUCTURES
from core.volume import Volume
from tests.asap_viewer.viewer_harness import CHROMIUM, FLAGS, Scene, serve_scenes, wait_shown, wish

ORGANS = 45
SCRIPT = """async (frames) => {
  const v = document.querySelector('.asap-viewer').viewer;
  const [draw, frame] = [[], []];
  const next = () => new Promise((done) => requestAnimationFrame(done));
  const idle = [];
  let last = await next();
  for (let k = 0; k < 40; k += 1) { const now = await next(); idle.push(now - last); last = now; }
  const limit = v.case.shape.map((count) => count - 1);
  for (let k = 0; k < frames; k += 1) {
    v.at = limit.map((top) => Math.round(top * (0.3 + 0.4 * k / frames)) + (k % 2));
    const start = performance.now();
    v.stage.draw();
    draw.push(performance.now() - start);
    const now = await next();
    frame.push(now - last);
    last = now;
  }
  return { draw, frame: frame.slice(1), idle, shape: v.case.shape,
    canvas: v.stage.views.map((one) => [one.picture.width, one.picture.height]) };
}"""


def make_scene(side: int, height: int) -> Scene:
    """A body full of organs: every voxel of an ellipsoid belongs to the nearest of `ORGANS` random points."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(7)
    shape = (side, side, height)
    axes = [np.linspace(-1, 1, count, dtype=np.float32) for count in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside = x**2 / 0.8 + y**2 / 0.5 + z**2 < 1
    seeds = rng.uniform(-0.7, 0.7, (ORGANS, 3))
    nearest = cKDTree(seeds).query(np.stack([x[inside], y[inside], z[inside]], -1))[1]
    labels = np.zeros(shape, np.uint8)
    labels[inside] = np.array([one.number for one in STRUCTURES[:ORGANS]], np.uint8)[nearest]
    hu = rng.normal(0, 60, shape).astype(np.int16) + np.where(inside, 40, -1000).astype(np.int16)
    heat = np.exp(-((x - 0.3) ** 2 + y**2 + z**2) / 0.1)
    spacing_mm = 360 / side
    volume = Volume.from_source(hu, np.diag([spacing_mm, spacing_mm, 320 / height, 1.0]))
    return Scene(volume, OrganMasks(labels, "made"), heat)


def measure(scene: Scene, frames: int, width: int, height: int) -> dict[str, Any]:
    """Draw and frame times in ms."""
    from playwright.sync_api import sync_playwright

    with serve_scenes({"one": scene}) as running, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(running.url)
        wait_shown(page)
        wish(page, "heat one")
        wish(page, 'look {"preset": "mediastinum", "fill_opacity": 0.2, "outline": true}')
        page.wait_for_function("() => document.querySelector('.asap-viewer').viewer.heat")
        if not page.evaluate("() => document.querySelector('.asap-viewer').viewer.isExact"):
            page.evaluate("() => document.querySelector('.asap-viewer').viewer.loadFull()")
            page.wait_for_function("() => document.querySelector('.asap-viewer').viewer.isExact", timeout=60000)
        page.evaluate(SCRIPT, 30)
        client = page.context.new_cdp_session(page)
        client.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = main_thread_s(client)
        found = page.evaluate(SCRIPT, frames)
        found["cpu"] = 1000 * (main_thread_s(client) - before) / frames
        browser.close()
    return found


def main_thread_s(client: Any) -> float:
    """CPU seconds the page's main thread has used, painting included."""
    metrics = client.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def summarise(found: dict[str, Any]) -> dict[str, Any]:
    """Percentiles, with the machine's load beside them: a busy machine measures itself."""
    percentiles = {
        f"{name}_ms": {f"p{q}": round(float(np.percentile(found[key], q)), 2) for q in (50, 95)}
        for name, key in {"draw": "draw", "frame": "frame", "idle_frame": "idle"}.items()
    }
    return {
        "what": "three planes, each a new slice, masks with outlines and heat",
        "shape": found["shape"],
        "organs": ORGANS,
        "canvas_px": found["canvas"],
        "frames": len(found["draw"]),
        **percentiles,
        "cpu_ms": round(found["cpu"], 2),
        "target_draw_p95_ms": 16,
        "load_1min": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256, help="voxels across and deep")
    parser.add_argument("--height", type=int, default=0, help="slices; 0 = as many as across")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--window", default="1200x1000", help="browser window")
    given = parser.parse_args()
    width, height = map(int, given.window.split("x"))
    scene = make_scene(given.side, given.height or given.side)
    print(json.dumps(summarise(measure(scene, given.frames, width, height)), indent=1))


if __name__ == "__main__":
    main()
