"""Two browsers at once, reloading, leaving, and a page below another address."""

import urllib.error
import urllib.request

import numpy as np
import pytest
from viewer_harness import CHROMIUM, FLAGS, Scene, serve_scenes, settle, viewer_value, wait_shown, wish

from asap_viewer.served import ServedLimits
from core.volume import Volume

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium"),
]


@pytest.fixture(scope="module")
def scene() -> Scene:
    hu = np.random.default_rng(5).integers(-1000, 1000, (40, 40, 40)).astype(np.int16)
    return Scene(Volume.from_source(hu, np.diag([2.0, 2.0, 2.0, 1.0])))


@pytest.fixture(scope="module")
def running(scene):
    with serve_scenes({"one": scene}, ServedLimits(grace_s=2.0)) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


def volume_url(page) -> str:
    return viewer_value(page, "new URL(v.case.volume.url, v.loader.arrays.base).href")


def status(page, url: str) -> int:
    return page.evaluate("async (url) => (await fetch(url, { cache: 'no-store' })).status", url)


def test_two_browsers_never_reach_each_others_volume(browser, running):
    pages = [browser.new_context().new_page() for _ in range(2)]
    for page in pages:
        page.goto(running.url)
        wait_shown(page)
    one, two = (volume_url(page) for page in pages)
    assert one != two
    assert [status(pages[0], one), status(pages[1], two)] == [200, 200]
    assert [status(pages[0], two), status(pages[1], one)] == [404, 404]
    assert status(pages[0], one[:-2] + "xx") == 404
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(one)  # the address alone is not enough
    for page in pages:
        page.context.close()


def test_reload_does_not_fetch_the_volume_again(browser, running):
    page = browser.new_context().new_page()
    page.goto(running.url)
    wait_shown(page)
    before = volume_url(page)
    page.wait_for_timeout(6000)  # what the first load asked for late or twice is answered by then
    seen = len(running.answers)
    page.reload()
    wait_shown(page)
    assert volume_url(page) == before
    again = [status for path, status in running.answers[seen:] if "asap/volume" in path]
    assert set(again) == {304}  # asked again, perhaps twice, never sent again
    page.context.close()


def test_leaving_the_page_removes_the_volume(browser, running):
    context = browser.new_context()
    page, other = context.new_page(), context.new_page()
    page.goto(running.url)
    wait_shown(page)
    url = volume_url(page)
    other.goto(running.url + "asap/static/viewer.js")
    assert status(other, url) == 200
    page.close()
    for _ in range(60):
        if status(other, url) == 404:
            break
        other.wait_for_timeout(250)
    assert status(other, url) == 404
    context.close()


def test_lost_volume_is_said_in_words(browser, running):
    page = browser.new_context().new_page()
    page.route("**/asap/volume/*", lambda route: route.fulfill(status=404, body="gone"))
    page.goto(running.url)
    page.wait_for_selector(".ctv-error", timeout=60000)
    assert "open the case again" in page.locator(".ctv-error").inner_text()
    page.context.close()


def test_broken_off_volume_is_said_in_words(browser, running):
    page = browser.new_context().new_page()
    page.route("**/asap/volume/*", lambda route: route.fulfill(status=200, body="short"))
    page.goto(running.url)
    page.wait_for_selector(".ctv-error", timeout=60000)
    assert "broke off after 5 of 128000 bytes" in page.locator(".ctv-error").inner_text()
    page.context.close()


def test_missing_script_leaves_words_not_a_black_box(browser, running):
    page = browser.new_context().new_page()
    page.route("**/asap/static/planes.js", lambda route: route.fulfill(status=404, body=""))
    page.goto(running.url)
    page.wait_for_function("() => document.querySelector('.ctv-wait')?.textContent.includes('could not start')")
    page.context.close()


def test_same_place_can_be_asked_for_twice(browser, running):
    page = browser.new_context().new_page()
    page.goto(running.url)
    wait_shown(page)
    wish(page, "goto 20 20 20")
    assert viewer_value(page, "v.at") == [10, 10, 10]
    page.locator(".asap-viewer").press("PageUp")
    settle(page)
    wish(page, "goto 20 20 20")
    assert viewer_value(page, "v.at") == [10, 10, 10]
    page.context.close()


@pytest.mark.parametrize("slash", ["", "/"])
def test_works_below_another_address(browser, scene, slash):
    with serve_scenes({"one": scene}, path="/viewer") as running:
        page = browser.new_context().new_page()
        page.goto(running.url + slash)
        wait_shown(page)
        assert "/viewer/asap/volume/" in volume_url(page)
        page.context.close()
