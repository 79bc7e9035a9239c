"""The web application without a browser: cookies, static files, limits, nothing said to the outside."""

import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest
from starlette.testclient import TestClient

from asap_viewer.privacy import keep_quiet
from asap_viewer.served import BROWSER_COOKIE, Blob, Owner, VolumeServer
from asap_viewer.server import ServerConfig, build_app
from core.errors import ConfigError


@pytest.fixture(scope="module")
def served() -> VolumeServer:
    return VolumeServer()


@pytest.fixture(scope="module")
def app(served):
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("a page")
    return build_app(page, served, ServerConfig(max_upload_bytes=1000))


def test_first_page_brings_a_cookie_and_later_ones_do_not(app):
    client = TestClient(app)
    first = client.get("/")
    header = first.headers["set-cookie"]
    assert header.startswith(f"{BROWSER_COOKIE}=")
    assert "HttpOnly" in header
    assert "SameSite=Lax" in header
    assert "set-cookie" not in client.get("/").headers
    other = TestClient(app)
    other.get("/")
    assert other.cookies[BROWSER_COOKIE] != client.cookies[BROWSER_COOKIE]


def test_strange_cookies_do_no_harm(app):
    answer = TestClient(app).get("/", headers={"Cookie": 'a="; b=\\; {}=; =x'})
    assert answer.status_code == 200


def test_scripts_are_served_and_revalidated(app):
    client = TestClient(app)
    first = client.get("/asap/static/viewer.js")
    assert "javascript" in first.headers["content-type"]
    assert first.headers["cache-control"] == "no-cache"
    assert "mountViewer" in first.text
    again = client.get("/asap/static/viewer.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", ["/asap/static/../server.py", "/asap/static/%2e%2e/server.py", "/asap/volume/"])
def test_nothing_else_is_served(app, path):
    answer = TestClient(app).get(path)
    assert "VolumeServer" not in answer.text


def test_volumes_are_behind_the_page(app, served):
    import numpy as np

    client = TestClient(app)
    client.get("/")
    url = served.publish(Blob(np.ones((2, 2, 2), np.uint8)), Owner("s", client.cookies[BROWSER_COOKIE]))
    assert client.get("/" + url).content == b"\x01" * 8
    assert TestClient(app).get("/" + url).status_code == 404


def test_uploads_above_the_limit_are_refused(app):
    answer = TestClient(app).post("/gradio_api/upload", files={"files": ("big.bin", b"0" * 5000)})
    assert answer.status_code == 413


@pytest.mark.parametrize(("wrong", "word"), [({"port": 0}, "port"), ({"path": "viewer"}, "path")])
def test_impossible_settings_are_refused(wrong, word):
    with pytest.raises(ConfigError, match=word):
        ServerConfig(**wrong)


def test_environment_is_made_quiet_but_a_choice_is_kept(tmp_path):
    environ = {"GRADIO_SSR_MODE": "True", "GRADIO_TEMP_DIR": str(tmp_path)}
    keep_quiet(environ)
    assert environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert environ["GRADIO_SSR_MODE"] == "True"
    assert environ["GRADIO_TEMP_DIR"] == str(tmp_path)


def test_viewer_needs_no_heavy_library():
    heavy = "('torch', 'transformers', 'SimpleITK', 'skimage', 'faiss', 'highdicom', 'monai')"
    code = f"import sys, asap_viewer.server, asap_viewer.layers; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
