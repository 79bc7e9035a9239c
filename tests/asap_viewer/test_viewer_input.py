"""Mouse, wheel, keys and buttons of the viewer, in Chromium."""

import io

import numpy as np
import pytest
from PIL import Image
from viewer_harness import CHROMIUM, FLAGS, Scene, pixels, serve_scenes, settle, viewer_value, wait_shown

from core.volume import Volume

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium"),
]

SPACING_MM = np.array([1.5, 2.0, 3.0])


@pytest.fixture(scope="module")
def volume() -> Volume:
    """HU that name their own place: x + 100 y - 10 z, so that any wrong read shows."""
    x, y, z = np.indices((60, 50, 40))
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = [-45.0, -50.0, -60.0]
    return Volume.from_source((x + 20 * y - 10 * z).astype(np.int16), affine)


@pytest.fixture(scope="module")
def running(volume):
    with serve_scenes({"ramp": Scene(volume, title="ramp")}) as running:
        yield running


@pytest.fixture(scope="module")
def browser_page(running):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.goto(running.url)
        wait_shown(page)
        yield page
        browser.close()


@pytest.fixture
def page(browser_page):
    viewer_value(browser_page, "(v.reset(), v.stage.only && v.maximise(v.stage.only), v.setAt([30, 25, 20]))")
    browser_page.locator(".ctv-plane[data-kind=axial]").scroll_into_view_if_needed()
    settle(browser_page)
    return browser_page


def place(page, kind: str, voxel) -> tuple[float, float]:
    """Page coordinates at which a plane draws a voxel."""
    box = page.locator(f".ctv-plane[data-kind={kind}] .ctv-stage").bounding_box()
    x, y = viewer_value(page, f"view('{kind}').toScreen({list(map(float, voxel))})")
    return box["x"] + x, box["y"] + y


def at(page) -> list[int]:
    return viewer_value(page, "v.at")


def test_click_and_drag_move_the_crosshair_of_all_planes(page, running, volume):
    heard = len(running.events)
    page.mouse.click(*place(page, "axial", [12, 40, 20]))
    assert at(page) == [12, 40, 20]
    event = running.wait_for_event(heard, hu=int(volume.hu[12, 40, 20]))
    assert np.allclose(event["mm"], volume.grid.to_mm([12, 40, 20]))
    assert event["source"] == "user"
    page.mouse.move(*place(page, "coronal", [12, 40, 20]))
    page.mouse.down()
    page.mouse.move(*place(page, "coronal", [50, 40, 7]), steps=4)
    page.mouse.up()
    assert at(page) == [50, 40, 7]


def test_wheel_changes_the_slice_under_it_and_never_scrolls_the_page(page):
    before = page.evaluate("scrollY")
    for kind, axis in {"axial": 2, "coronal": 1, "sagittal": 0}.items():
        start = at(page)
        page.mouse.move(*place(page, kind, start))
        page.mouse.wheel(0, 120)
        settle(page)
        expected = list(start)
        expected[axis] -= 1
        assert at(page) == expected, kind
    assert page.evaluate("scrollY") == before


def test_small_wheel_movements_add_up(page):
    page.mouse.move(*place(page, "axial", at(page)))
    for _ in range(5):
        page.mouse.wheel(0, -10)
    settle(page)
    assert at(page)[2] == 21


def test_keys_step_and_jump(page):
    viewer = page.locator(".asap-viewer")
    page.mouse.click(*place(page, "axial", [30, 25, 20]))
    for key, expected in {"ArrowUp": 21, "PageUp": 31, "ArrowDown": 30, "PageDown": 20, "Home": 39, "End": 0}.items():
        viewer.press(key)
        assert at(page)[2] == expected, key


def test_slider_moves_its_plane(page):
    slider = page.get_by_label("Sagittal slice")
    slider.fill("44")
    assert at(page) == [44, 25, 20]
    settle(page)
    assert slider.get_attribute("aria-valuetext") == "R 21.0 mm, slice 45 of 60"


def test_right_drag_changes_window_and_level(page):
    x, y = place(page, "axial", [30, 25, 20])
    page.mouse.move(x, y)
    page.mouse.down(button="right")
    page.mouse.move(x + 50, y - 30, steps=3)
    page.mouse.up(button="right")
    width, level = viewer_value(page, "[v.window.width, v.window.level]")
    assert (width, level) == pytest.approx((450, 70), abs=5)
    assert at(page) == [30, 25, 20]


def test_zoom_keeps_the_place_under_the_pointer(page):
    x, y = place(page, "axial", [20, 30, 20])
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    settle(page)
    assert viewer_value(page, "view('axial').zoom") > 1.3
    assert place(page, "axial", [20, 30, 20]) == pytest.approx((x, y), abs=0.6)


def test_shift_drag_pans(page):
    x, y = place(page, "axial", [30, 25, 20])
    page.keyboard.down("Shift")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 25, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert place(page, "axial", [30, 25, 20]) == pytest.approx((x + 40, y + 25), abs=0.6)
    assert at(page) == [30, 25, 20]


def test_distance_is_in_patient_millimetres(page):
    page.get_by_role("button", name="Distance: drag").click()
    page.mouse.move(*place(page, "coronal", [10, 25, 10]))
    page.mouse.down()
    page.mouse.move(*place(page, "coronal", [50, 25, 30]), steps=3)
    page.mouse.up()
    start, end = viewer_value(page, "[v.distances[0].from, v.distances[0].to]")
    measured = np.linalg.norm((np.array(start) - end) * SPACING_MM)
    assert measured == pytest.approx(np.hypot(40 * 1.5, 20 * 3.0), abs=1.5)  # a pixel of the screen is about 1 mm
    assert at(page) == [30, 25, 20]
    page.locator(".asap-viewer").press("Delete")
    assert viewer_value(page, "v.distances.length") == 0


def test_scale_bar_has_the_length_it_says(page):
    mm, scale, width = page.evaluate(
        "async () => { const d = await import('/asap/static/draw.js');"
        " const one = document.querySelector('.asap-viewer').viewer.stage.views[0];"
        " return [d.scaleBarMm(one.scale, one.marks.width), one.scale, one.marks.width] }"
    )
    assert width / 12 < mm * scale <= width / 4
    marks = pixels(page, "axial", "marks")
    row = marks[-13:-10].max(axis=0)
    light = np.nonzero((row[: width // 2, :3].min(axis=-1) > 190) & (row[: width // 2, 3] > 190))[0]
    assert light.max() - light.min() == pytest.approx(mm * scale, abs=3)


def test_double_click_shows_one_plane_and_escape_all(page):
    box = page.locator(".ctv-plane[data-kind=coronal]").bounding_box()
    page.mouse.dblclick(*place(page, "coronal", [30, 25, 20]))
    settle(page)
    assert not page.locator(".ctv-plane[data-kind=axial]").is_visible()
    assert page.locator(".ctv-plane[data-kind=coronal]").bounding_box()["height"] > box["height"] * 1.5
    page.locator(".asap-viewer").press("Escape")
    settle(page)
    assert page.locator(".ctv-plane[data-kind=axial]").is_visible()


def test_help_opens_and_closes_by_key(page):
    viewer = page.locator(".asap-viewer")
    viewer.press("?")
    assert page.get_by_role("dialog").is_visible()
    assert "Page Up" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()


def test_typing_in_a_field_is_not_a_viewer_key(page):
    field = page.get_by_label("Window width in HU")
    field.fill("1500")
    field.press("Enter")
    assert viewer_value(page, "v.window.width") == 1500
    assert viewer_value(page, "v.window.level") == 40


def test_saved_picture_carries_the_planes_and_the_disclaimer(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save a picture").click()
    picture = np.asarray(Image.open(io.BytesIO(download.value.path().read_bytes())).convert("RGB")).astype(int)
    planes = viewer_value(page, "v.stage.views.reduce((sum, one) => sum + one.picture.width, 0)")
    assert picture.shape[1] >= planes
    foot = picture[-40:-10]
    warm = (foot[..., 0] > 200) & (foot[..., 2] < 180)  # the disclaimer's colour
    assert warm.sum() > 100
    assert download.value.suggested_filename.endswith("-30-25-20.png")


def test_touch_drag_moves_the_crosshair(page):
    (x0, y0), (x1, y1) = place(page, "axial", [30, 25, 20]), place(page, "axial", [45, 10, 20])
    client = page.context.new_cdp_session(page)
    client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x0, "y": y0}]})
    client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x1, "y": y1}]})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settle(page)
    assert at(page) == [45, 10, 20]
