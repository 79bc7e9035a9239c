"""The main job once through, as a person does it: scan, organs, sentences, question, verdict, export."""

import re
import zipfile

import pytest
from dicom_series import axes_affine, ct_slices, phantom_hu, write_slices
from viewer_harness import CHROMIUM, FLAGS, serve_blocks, viewer_value, wait_shown

from asap_viewer.page import build_page, page_looks
from asap_viewer.served import VolumeServer
from asap_viewer.services import Services
from asap_viewer.settings import Settings

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium"),
]

HOSTILE = "Nodule <img src=x onerror=\"document.title='owned'\"> in the ${document.title='owned'} left lower lobe."


@pytest.fixture(scope="module")
def address(tiny_assets, tmp_path_factory):
    served = VolumeServer()
    settings = Settings(assets=tiny_assets, data=tmp_path_factory.mktemp("data"), models=tiny_assets / "none")
    with serve_blocks(build_page(Services(settings, served)), served, **page_looks()) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A fresh browser on the page, with the sample's slices and every sentence looked for."""
    context = browser.new_context(viewport={"width": 1500, "height": 950}, accept_downloads=True)
    page = context.new_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(address)
    wait_shown(page)
    found = """document.querySelectorAll('.rp-row[data-found="true"]').length > 3"""
    page.wait_for_function(found, timeout=120_000)
    yield page
    assert page.wrong == []
    context.close()


def open_tab(page, label: str) -> None:
    page.click(f'.tb-tab:has-text("{label}")')


def test_a_person_finds_a_sentence_judges_it_asks_and_exports(page):
    row = page.locator(".rp-row", has_text="nodule").first
    row.click()
    page.wait_for_function("document.querySelector('.asap-viewer').viewer.heat !== null", timeout=60_000)
    facts = page.locator(".rp-facts").first.inner_text()
    assert re.search(r"Peak at [RL] \d+, [AP] \d+, [SI] \d+ mm", facts)
    page.click(".rp-verdict.rp-reject")
    page.wait_for_selector(".rp-mark.rp-reject", timeout=30_000)

    open_tab(page, "Organs")
    assert page.locator(".op-row").count() > 20
    page.click('.op-eye[title="Hide left lower lobe"]')
    page.wait_for_function("document.querySelector('.asap-viewer').viewer.hidden.has(11)", timeout=30_000)

    open_tab(page, "Ask")
    page.fill(".asap-tab-ask textarea, .asap-tab-ask input", "What is the volume of the left lung?")
    page.click(".asap-tab-ask button.primary")
    page.wait_for_selector(".ap-answer", timeout=60_000)
    assert "mL" in page.inner_text(".ap-answer")

    open_tab(page, "Export")
    page.click(".asap-tab-export button.primary")
    link = page.wait_for_selector(".fp-link", timeout=60_000)
    with page.expect_download() as saved:
        link.click()
    assert saved.value.suggested_filename == "organs.nii.gz"
    assert all(url.startswith(("http://127.0.0.1", "data:", "blob:")) for url in page.asked)


def test_raw_heat_is_one_click_away_and_stays_chosen(page):
    page.locator(".rp-row", has_text="nodule").first.click()
    page.wait_for_function("document.querySelector('.asap-viewer').viewer.heat !== null", timeout=60_000)
    assert page.inner_text('[data-read="kept"]') == "kept inside: left lower lobe"
    warm = "v.heat.data.reduce((sum, value) => sum + (value > 0), 0)"
    kept = viewer_value(page, warm)
    raw = page.locator('[data-heat="raw"]')
    assert raw.inner_text() == "Raw heat"
    raw.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.asap-viewer').viewer.isRawHeat", timeout=30_000)
    assert viewer_value(page, warm) > kept
    assert raw.get_attribute("aria-pressed") == "true"
    page.locator(".rp-row", has_text="heart is not enlarged").first.click()
    heard = "document.querySelector('.asap-viewer').viewer.heatSpec.words === 'kept inside: heart'"
    page.wait_for_function(heard, timeout=60_000)
    assert viewer_value(page, "v.isRawHeat && v.heatKind") == "raw"
    page.click('button[aria-label="Move the crosshair to where this heat is hottest"]')
    assert viewer_value(page, "v.readAt(v.at).heat") > 0.9
    page.click('[data-heat="kept"]')
    page.wait_for_function("!document.querySelector('.asap-viewer').viewer.isRawHeat", timeout=30_000)


def test_heat_goes_when_the_sentences_are_looked_for_again(page):
    page.locator(".rp-row", has_text="nodule").first.click()
    page.wait_for_function("document.querySelector('.asap-viewer').viewer.heat !== null", timeout=60_000)
    page.click('button:has-text("Paste or edit the report")')
    page.click('button:has-text("Find sentences")')
    page.wait_for_function("document.querySelector('.asap-viewer').viewer.heat === null", timeout=60_000)


def test_report_text_stays_text(page):
    page.click('button:has-text("Paste or edit the report")')
    page.fill('.asap-tab-report textarea[placeholder="Paste the findings here"]', HOSTILE + " The heart is normal.")
    page.click('button:has-text("Find sentences")')
    page.wait_for_function("document.querySelectorAll('.rp-row').length === 2", timeout=60_000)
    page.wait_for_selector('.rp-row[data-found="true"]', timeout=60_000)
    assert page.inner_text(".rp-text").startswith("Nodule <img")
    assert page.title() == "ASAP Viewer"
    assert page.locator(".rp-list img").count() == 0


def test_the_series_of_an_upload_are_a_table_to_choose_from(page, tmp_path):
    hu, named = phantom_hu((40, 36, 12)), "Chest <b>thin</b>"

    def make_scout(_number, ds):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_slices(tmp_path / "thin", ct_slices(hu, axes_affine("LPS"), description=named))
    write_slices(tmp_path / "thick", ct_slices(hu[:, :, ::2], axes_affine("LPS", (0.7, 0.8, 5.0)), description="Thick"))
    write_slices(tmp_path / "scout", ct_slices(hu[:, :, :2], axes_affine("LPS"), description="Scout"), make_scout)
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tmp_path.rglob("IM*")):
            archive.write(file, file.relative_to(tmp_path))
    open_tab(page, "Open")
    page.set_input_files(".asap-tab-open input[type=file] >> nth=0", str(path))
    page.wait_for_selector(".sp-table", timeout=60_000)
    rows = page.locator(".sp-table tr").all_inner_texts()
    assert len(rows) == 4
    assert rows[1].startswith(named)
    assert rows[1].endswith("open")
    assert "localizer" in next(row for row in rows if row.startswith("Scout"))
    assert "no gap" in page.inner_text(".asap-tab-open .fp-list")
    page.click('button.sp-name:has-text("Thick")')
    page.wait_for_function(
        "document.querySelector('[aria-current=true]').innerText.startsWith('Thick')", timeout=60_000
    )


def test_a_file_that_is_no_ct_is_refused_in_words(page, tmp_path):
    path = tmp_path / "holiday.nii.gz"
    path.write_bytes(b"not an image")
    open_tab(page, "Open")
    page.set_input_files(".asap-tab-open input[type=file] >> nth=0", str(path))
    page.wait_for_selector('.sl[data-kind="error"]', timeout=30_000)
    assert "holiday.nii.gz" in page.inner_text(".sl-words")
    assert viewer_value(page, "v.ct !== null")
