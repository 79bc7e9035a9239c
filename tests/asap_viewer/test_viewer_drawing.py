"""Is every voxel drawn where it lies in the patient, on the right side, in the right grey? Looked at in Chromium."""

import math

import numpy as np
import pytest
from viewer_harness import CHROMIUM, FLAGS, Scene, pixels, serve_scenes, settle, viewer_value, wait_shown, wish

from core.anatomy.masks import OrganMasks
from core.structures import BY_NAME
from core.volume import Volume

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium"),
]

LANDMARK_MM = np.array([30.4, 20.7, 44.3])  # right, anterior, superior of the middle
PLANES = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}  # fixed, across, down
AFFINES = {
    "RAS": np.diag([2.0, 3.0, 4.0, 1.0]),
    "LPS": np.diag([-2.0, -3.0, 4.0, 1.0]),
    "PIR": np.array([[0, 0, 2.0, 0], [-3.0, 0, 0, 0], [0, -4.0, 0, 0], [0, 0, 0, 1]]),
}


def tilted(degrees: float) -> np.ndarray:
    """A gantry-tilted grid: turned about the left-right axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
    return turn @ np.diag([2.0, 3.0, 4.0, 1.0])


def make_volume(affine: np.ndarray) -> Volume:
    """Water in air, with a ball of 3000 HU, 5 mm in radius, at `LANDMARK_MM`; the middle of the grid is 0 mm."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    size_mm = np.abs(affine[:3, :3] / spacing).T @ np.array([160.0, 150.0, 180.0])
    shape = np.rint(size_mm / spacing).astype(int)
    affine = affine.copy()
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    index = np.indices(shape).reshape(3, -1)
    mm = (affine[:3, :3] @ index).T + affine[:3, 3]
    hu = np.where(np.abs(mm).max(axis=1) < 65, 0, -1000)
    hu[np.linalg.norm(mm - LANDMARK_MM, axis=1) < 5] = 3000
    return Volume.from_source(hu.reshape(shape).astype(np.int16), affine)


def make_organs(volume: Volume) -> OrganMasks:
    """A liver block on the right, a spleen block on the left."""
    mm = volume.grid.to_mm(np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1))
    low = (np.abs(mm[..., 1]) < 40) & (np.abs(mm[..., 2] + 20) < 30)
    labels = np.zeros(volume.shape, np.uint8)
    labels[low & (mm[..., 0] > 15) & (mm[..., 0] < 60)] = BY_NAME["liver"].number
    labels[low & (mm[..., 0] < -15) & (mm[..., 0] > -60)] = BY_NAME["spleen"].number
    return OrganMasks(labels, "by hand")


def make_heat(volume: Volume) -> np.ndarray:
    mm = volume.grid.to_mm(np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1))
    return np.exp(-(np.linalg.norm(mm - np.array([-40.0, -30.0, 20.0]), axis=-1) ** 2) / (2 * 8.0**2))


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    made = {name: make_volume(affine) for name, affine in {**AFFINES, "tilted": tilted(14)}.items()}
    found = {name: Scene(volume) for name, volume in made.items()}
    main = made["LPS"]
    found["organs"] = Scene(main, make_organs(main), make_heat(main), title="<img src=x onerror=alert(1)> ${1+1}")
    noise = np.random.default_rng(3).integers(-1000, 1000, main.source.shape).astype(np.int16)
    found["large"] = Scene(Volume.from_source(noise, main.source.affine), first_voxels=60_000)
    return found


@pytest.fixture(scope="module")
def running(scenes):
    with serve_scenes(scenes) as running:
        yield running


@pytest.fixture(scope="module")
def page(running):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 1100})
        page.strange = []
        page.on("pageerror", lambda error: page.strange.append(str(error)))
        page.on("dialog", lambda dialog: (page.strange.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: note_foreign(page, request.url))
        page.goto(running.url)
        wait_shown(page)
        yield page
        assert page.strange == []
        browser.close()


def note_foreign(page, url: str) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:")):
        page.strange.append(url)


def open_scene(page, name: str) -> None:
    wish(page, f"open {name}")
    wait_shown(page)
    viewer_value(page, "v.reset()")
    settle(page)


def go(page, mm) -> None:
    wish(page, "goto " + " ".join(f"{value:.4f}" for value in mm))


def bright_centre(picture: np.ndarray) -> np.ndarray:
    """Screen place (x, y) of the middle of what is nearly white."""
    rows, columns = np.nonzero(picture[..., 0] > 200)
    assert len(rows) > 0, "nothing bright is drawn"
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


@pytest.mark.parametrize("name", ["RAS", "LPS", "PIR", "tilted"])
def test_landmark_is_drawn_at_its_place_and_side_in_every_plane(page, scenes, name):
    open_scene(page, name)
    go(page, LANDMARK_MM)
    viewer_value(page, "v.setWindow(2000, 1500)")  # water black, landmark white
    settle(page)
    grid = scenes[name].volume.grid
    voxel = grid.to_voxel(LANDMARK_MM)
    for kind, (_, across, down) in PLANES.items():
        picture = pixels(page, kind)
        height, width = picture.shape[:2]
        spacing, shape = np.array(grid.spacing_mm), np.array(grid.shape)
        scale = min(width / (shape[across] * spacing[across]), height / (shape[down] * spacing[down]))
        offset_mm = ((shape - 1) / 2 - voxel) * spacing  # towards the right and the bottom of the screen
        expected = np.array([width / 2 + offset_mm[across] * scale, height / 2 + offset_mm[down] * scale])
        drawn = bright_centre(picture)
        assert np.abs(drawn - expected).max() < 2.5 * scale, (kind, drawn, expected)  # mm
        assert drawn[0] < width / 2  # patient right, or anterior, lies on the left of the screen
        assert drawn[1] < height / 2  # anterior, or superior, at the top


@pytest.mark.parametrize(
    ("name", "kind", "letters"),
    [
        ("LPS", "axial", "RLAP"),
        ("PIR", "coronal", "RLSI"),
        ("RAS", "sagittal", "APSI"),
    ],
)
def test_side_letters(page, name, kind, letters):
    open_scene(page, name)
    found = page.evaluate(
        "async (kind) => { const g = await import('/asap/static/geometry.js');"
        " const v = document.querySelector('.asap-viewer').viewer;"
        " return g.sideLetters(v.case.affine, g.PLANES[kind]) }",
        kind,
    )
    assert found["left"] + found["right"] + found["top"] + found["bottom"] == letters
    # and they are painted: warm letters near all four edges of the marks canvas
    marks = pixels(page, kind, "marks").astype(int)
    warm = (marks[..., 0] > 220) & (marks[..., 2] < 180) & (marks[..., 1] > 180) & (marks[..., 3] > 200)
    height, width = warm.shape
    middle_x, middle_y = slice(width // 2 - 20, width // 2 + 20), slice(height // 2 - 15, height // 2 + 15)
    for edge in (warm[middle_y, :30], warm[middle_y, -30:], warm[:30, middle_x], warm[-30:, middle_x]):
        assert edge.any()


@pytest.mark.parametrize("name", ["LPS", "PIR", "tilted"])
def test_read_out_is_the_true_value_at_the_place(page, scenes, name):
    open_scene(page, name)
    volume = scenes[name].volume
    for mm in (LANDMARK_MM, np.array([0.3, 0.4, 0.5]), np.array([-50.3, 12.2, -60.4])):
        go(page, mm)
        nearest = volume.grid.nearest_voxel(mm)
        said = page.locator('[data-read="hu"]').inner_text().replace("−", "-")
        assert said == f"{volume.hu[nearest]} HU"
        place = page.locator('[data-read="mm"]').inner_text().replace("−", "-").removesuffix(" mm RAS")
        assert np.allclose([float(part) for part in place.split(",")], volume.grid.to_mm(nearest), atol=0.051)
        source = np.rint(volume.source.to_voxel(volume.grid.to_mm(nearest))).astype(int)
        assert page.locator('[data-read="voxel"]').inner_text() == "voxel " + ", ".join(map(str, source))


def test_window_presets_give_the_right_grey(page):
    open_scene(page, "RAS")
    go(page, [0, 0, 0])
    for key, (width, level) in {"1": (1500, -600), "2": (400, 40), "3": (2500, 480), "4": (400, 40)}.items():
        page.locator(".asap-viewer").press(key)
        settle(page)
        picture = pixels(page, "axial")
        middle = picture[picture.shape[0] // 2 + 30, picture.shape[1] // 2 + 30, :3]  # water
        grey = round(min(1, max(0, (0 - level + width / 2) / width)) * 255)
        assert np.abs(middle.astype(int) - grey).max() <= 1, key


def test_organs_are_outlined_hidden_and_named(page):
    open_scene(page, "organs")
    go(page, [40, 0, -20])
    assert page.locator('[data-read="organ"]').inner_text() == "liver"
    assert organ_side(page, "liver") < 0 < organ_side(page, "spleen")  # liver on the left of the screen
    page.locator(".asap-viewer").press("s")
    settle(page)
    assert organ_side(page, "spleen") is None
    assert organ_side(page, "liver") < 0
    page.locator(".asap-viewer").press("s")
    wish(page, f'look {{"hidden": [{BY_NAME["liver"].number}]}}')
    assert organ_side(page, "liver") is None
    assert organ_side(page, "spleen") > 0
    page.locator(".asap-viewer").press("m")
    settle(page)
    assert organ_side(page, "spleen") is None


def organ_side(page, name: str) -> float | None:
    """Mean column of an organ's outline in the axial plane relative to the middle; None when not drawn."""
    colour = [int(BY_NAME[name].colour[start : start + 2], 16) for start in (1, 3, 5)]
    picture = pixels(page, "axial")[..., :3].astype(int)
    hits = np.nonzero(np.abs(picture - colour).max(axis=-1) < 28)[1]
    return float(hits.mean() - picture.shape[1] / 2) if len(hits) > 20 else None


def test_outline_runs_along_the_organs_border(page):
    open_scene(page, "organs")
    go(page, [40, 0, -20])
    wish(page, 'look {"fill_opacity": 0}')
    colour = [int(BY_NAME["liver"].colour[start : start + 2], 16) for start in (1, 3, 5)]
    picture = pixels(page, "axial")[..., :3].astype(int)
    columns = np.nonzero((np.abs(picture - colour).max(axis=-1) < 28).any(axis=0))[0]
    volume_edges_mm = np.array([60.0, 16.0])  # faces of the voxels centred from 17 to 59 mm, patient right first
    scale = viewer_value(page, "view('axial').scale")
    expected = picture.shape[1] / 2 - volume_edges_mm * scale
    assert columns.min() == pytest.approx(expected[0], abs=1.5)
    assert columns.max() == pytest.approx(expected[1], abs=1.5)


def test_heat_is_laid_where_it_is_and_not_below_the_threshold(page):
    open_scene(page, "organs")
    page.locator(".asap-viewer").press("m")
    go(page, [-40, -30, 20])
    wish(page, "heat organs")
    page.wait_for_function("() => document.querySelector('.asap-viewer').viewer.heat")
    settle(page)
    assert float(page.locator('[data-read="heat"]').inner_text().removeprefix("heat ")) > 0.9
    assert "<img" in page.locator(".ctv-name").inner_text()  # a sentence is text, never markup
    wide = coloured(page)
    drawn = np.array([wide[1].mean(), wide[0].mean()])
    scale = viewer_value(page, "view('axial').scale")
    size = np.array(pixels(page, "axial").shape[1::-1])
    assert np.abs(drawn - (size / 2 + np.array([40.0, 30.0]) * scale)).max() < 4 * scale
    wish(page, 'look {"heat_threshold": 0.8}')
    narrow = coloured(page)
    assert 0 < len(narrow[0]) < len(wide[0]) / 2
    page.locator(".asap-viewer").press("h")
    settle(page)
    assert len(coloured(page)[0]) == 0


def coloured(page) -> tuple:
    """Rows and columns of the axial plane that are clearly not grey."""
    picture = pixels(page, "axial")[..., :3].astype(int)
    return np.nonzero(picture.max(axis=-1) - picture.min(axis=-1) > 40)


def test_large_volume_comes_coarse_first_then_whole(page, scenes):
    wish(page, "open large")
    wait_shown(page)
    assert viewer_value(page, "(clearTimeout(v.loader.idle), v.ct.data.length)") <= 60_000  # it would load when idle
    volume = scenes["large"].volume
    go(page, [10.3, 5.2, -7.4])
    assert page.locator('[data-read="hu"]').inner_text().startswith("≈")
    page.get_by_role("button", name="Load every voxel of the scan").click()
    page.wait_for_function("() => document.querySelector('.asap-viewer').viewer.isExact")
    said = page.locator('[data-read="hu"]').inner_text().replace("−", "-")
    assert said == f"{volume.hu[volume.grid.nearest_voxel([10.3, 5.2, -7.4])]} HU"
    assert viewer_value(page, "v.ct.data.length") == volume.hu.size


def test_slab_shows_the_brightest_within_its_thickness(page):
    open_scene(page, "RAS")
    go(page, LANDMARK_MM + [0, 0, 8])  # two slices above the ball's middle, one above its top
    viewer_value(page, "v.setWindow(2000, 1500)")
    settle(page)
    assert (pixels(page, "axial")[..., 0] > 200).sum() == 0
    page.get_by_label("Slab thickness").select_option("20")
    settle(page)
    assert (pixels(page, "axial")[..., 0] > 200).sum() > 20
    page.locator("select").nth(1).select_option("min")
    settle(page)
    assert (pixels(page, "axial")[..., 0] > 200).sum() == 0
