"""The page is built and its handlers are called as gradio calls them, without a browser."""

import io
import itertools
import json
import zipfile
from dataclasses import replace

import gradio as gr
import pytest
from model_folders import write_run

from asap_viewer.engines import State
from asap_viewer.page import build_page, lay_out_tabs, parts_of_page
from asap_viewer.panels import StatusLine
from asap_viewer.served import VolumeServer
from asap_viewer.services import PHANTOM_ID, Services
from asap_viewer.settings import Settings
from asap_viewer.tab_ask import AskHandlers
from asap_viewer.tab_export import HEAT, MASKS, SEG, ExportHandlers
from asap_viewer.tab_open import OpenHandlers
from asap_viewer.tab_organs import OrganHandlers
from asap_viewer.tab_report import ReportHandlers, jump_to_finding
from asap_viewer.tab_similar import BY_TEXT, SimilarHandlers
from asap_viewer.viewer import CTViewer
from asap_viewer.words import engine_rows, heat_label, place_words
from core.grounding.calibration import Calibration, ErrorRate, FamilyRecord

ENGINE = "bundled"


@pytest.fixture
def services(tiny_assets, tmp_path):
    return Services(Settings(assets=tiny_assets, models=tmp_path / "models", data=tmp_path / "data"), VolumeServer())


@pytest.fixture
def page(services):
    """The components of a page, without the page's server."""
    with gr.Blocks():
        tabs = lay_out_tabs(services)
        parts = parts_of_page(gr.State(""), CTViewer(), StatusLine(), tabs)
    return tabs, parts


def someone(name: str = "page-1") -> gr.Request:
    return gr.Request(session_hash=name, cookies={})


def event(**data) -> gr.EventData:
    return gr.EventData(None, data)


def merge(updates) -> dict:
    """The last value of every property of every component, as the browser ends up with."""
    seen: dict = {}
    for update in updates:
        for component, value in update.items():
            kept = seen.setdefault(component, {})
            kept |= value if isinstance(value, dict) else {"value": value}
    return seen


def opened(services, page, sample=PHANTOM_ID, name="page-1"):
    """A session with an open sample; returns its token and what the page shows."""
    tabs, parts = page
    do = OpenHandlers(services, parts, tabs.opening)
    session = services.sessions.begin(name)
    return session.token, merge(do.sample(session.token, sample, ENGINE, "auto", someone(name)))


def test_the_whole_page_is_built(services):
    page = build_page(services)
    assert len(page.fns) > 15


def test_opening_a_sample_shows_slices_organs_and_sentences(services, page):
    _, parts = page
    _, seen = opened(services, page)
    assert seen[parts.viewer]["scan"]["labels"]["url"].startswith("asap/volume/")
    organs = {row["name"]: row for row in seen[parts.organs]["organs"]}
    assert organs["lung_lower_lobe_left"]["volume_ml"] > 300
    sentences = seen[parts.sentences]["sentences"]
    assert any(row["existence"] == "present" for row in sentences)
    assert all("peak" in row for row in sentences)
    assert "sentences looked for by bundled" in seen[parts.status]["status"]["message"]


def test_choosing_a_sentence_sends_its_heat_and_jumps_to_its_peak(services, page):
    tabs, parts = page
    token, seen = opened(services, page)
    do = ReportHandlers(services, parts, tabs.report)
    chosen = merge(do.choose(token, ENGINE, someone(), event(index=1)))
    row = seen[parts.sentences]["sentences"][0]
    assert chosen[parts.viewer]["place"]["mm"] == pytest.approx(row["peak"], abs=0.1)
    assert chosen[parts.viewer]["heat"]["url"].startswith("asap/volume/")
    there = merge(do.look_here(token, ENGINE, event(mm=row["peak"])))
    assert 1 in [one["index"] for one in there[tabs.report.here]["here"]["sentences"]]


def test_a_free_sentence_is_found_and_said(services, page):
    tabs, parts = page
    token, _ = opened(services, page)
    do = ReportHandlers(services, parts, tabs.report)
    seen = merge(do.find_free(token, "Nodule in the left lower lobe.", ENGINE, someone()))
    assert "margin to its negation" in seen[parts.status]["status"]["message"]
    assert "heat" in seen[parts.viewer]
    empty = merge(do.find_free(token, "  ", ENGINE, someone()))
    assert empty[parts.status]["status"]["kind"] == "error"


def test_findings_say_who_scored_them_and_go_with_their_ct(services, page):
    tabs, parts = page
    token, _ = opened(services, page)
    do = ReportHandlers(services, parts, tabs.report)
    updates = list(do.score(token, ENGINE, ""))
    assert updates[0][parts.findings]["findings"] == [], "the ones before may be another engine's"
    seen = merge(updates)[parts.findings]
    assert len(seen["findings"]) == 18
    assert seen["caption"].startswith(f"By {ENGINE}")
    again = merge(OpenHandlers(services, parts, tabs.opening).sample(token, PHANTOM_ID, ENGINE, "auto", someone()))
    assert again[parts.findings]["findings"] == []
    jumped = jump_to_finding(event(mm=[1.0, 2.0, 3.0]))
    assert (jumped["place"]["mm"], jumped["heat"]["url"]) == ([1.0, 2.0, 3.0], "")


def test_distance_from_normal_is_laid_over_the_ct_and_goes_with_it(tiny_assets, tmp_path):
    write_run(tmp_path / "models" / "my_visd", "visd")
    settings = Settings(assets=tiny_assets, models=tmp_path / "models", data=tmp_path / "data")
    services = Services(settings, VolumeServer())
    with gr.Blocks():
        tabs = lay_out_tabs(services)
        parts = parts_of_page(gr.State(""), CTViewer(), StatusLine(), tabs)
    assert tabs.organs.judge.choices == [("my_visd", "my_visd")]
    token, _ = opened(services, (tabs, parts))
    seen = merge(OrganHandlers(services, parts, tabs.organs).compare(token, "my_visd", someone()))
    assert "by my_visd" in seen[parts.viewer]["heat"]["label"]
    rows = {row["label"]: row["value"] for row in seen[parts.distances]["rows"]}
    assert rows["lung"].startswith("farthest ")
    _, again = opened(services, (tabs, parts), name="page-2")
    assert again[parts.distances]["rows"] == []
    refused = merge(OrganHandlers(services, parts, tabs.organs).compare(token, ENGINE, someone()))
    assert "no model of normal organs" in refused[parts.status]["status"]["message"]


def test_the_legend_of_a_heat_map_names_its_engine_and_ends_with_a_whole_word():
    assert heat_label("No effusion.", "fvlm") == "No effusion. · by fvlm"
    assert heat_label("word " * 40, "fvlm") == "word " * 16 + "… · by fvlm"


def test_engines_that_can_run_come_first():
    states = [State("a", "grounding", "one", False, "weights"), State("b", "grounding", "two", True, "")]
    assert [row["label"] for row in engine_rows(states)] == ["b", "a"]


def test_a_verdict_is_kept_with_the_ct_and_found_by_the_next_session(services, page):
    tabs, parts = page
    token, _ = opened(services, page)
    do = ReportHandlers(services, parts, tabs.report)
    merge(do.judge(token, ENGINE, event(index=2, verdict="reject", note="<b>wrong side</b>")))
    _, seen = opened(services, page, name="page-2")
    row = seen[parts.sentences]["sentences"][1]
    assert (row["verdict"], row["note"]) == ("reject", "<b>wrong side</b>")


def test_a_question_is_answered_with_a_place(services, page):
    tabs, parts = page
    token, _ = opened(services, page)
    seen = merge(AskHandlers(services, parts, tabs.asking).ask(token, "What is the volume of the left lung?", ENGINE))
    answer = seen[tabs.asking.answers]["answers"][0]
    assert "mL" in answer["answer"]
    assert len(answer["mm"]) == 3


def test_what_cannot_be_done_is_said_in_the_status_line(services, page):
    tabs, parts = page
    token, _ = opened(services, page)
    similar = SimilarHandlers(services, parts, tabs.similar)
    told = merge(similar.search(token, BY_TEXT, "effusion", [], 5, ENGINE))[parts.status]["status"]
    assert told["kind"] == "error"
    assert "index build" in told["message"]
    exports = ExportHandlers(services, parts, tabs.export)
    told = merge(exports.make(token, SEG, ENGINE, someone()))[parts.status]["status"]
    assert "NIfTI" in told["message"]
    gone = merge(exports.make("guessed", MASKS, ENGINE, someone()))[parts.status]["status"]
    assert "Reload the page" in gone["message"]


@pytest.mark.parametrize("what", [MASKS, HEAT])
def test_exports_are_served_to_their_own_session(services, page, what):
    tabs, parts = page
    token, _ = opened(services, page)
    row = merge(ExportHandlers(services, parts, tabs.export).make(token, what, ENGINE, someone()))
    row = row[tabs.export.files]["rows"][0]
    blob = services.served.find(row["href"].rsplit("/", 1)[1], "")
    assert blob.filename == row["download"]
    assert blob.content[:2] in (b"\x1f\x8b", b"PK")


def test_exported_heat_comes_kept_and_raw_with_what_kept_it(services, page):
    tabs, parts = page
    token, seen = opened(services, page)
    row = merge(ExportHandlers(services, parts, tabs.export).make(token, HEAT, ENGINE, someone()))
    row = row[tabs.export.files]["rows"][0]
    archive = zipfile.ZipFile(io.BytesIO(services.served.find(row["href"].rsplit("/", 1)[1], "").content))
    told = json.loads(archive.read("grounding.json"))
    assert told["calibration"] is None
    count = len(seen[parts.sentences]["sentences"])
    names = [f"{kind}sentence_{number + 1:02d}.nii.gz" for number in range(count) for kind in ("", "raw_")]
    assert sorted(archive.namelist()) == sorted([*names, "grounding.json"])
    for one, shown in zip(told["sentences"], seen[parts.sentences]["sentences"], strict=True):
        assert one["constraint"]["words"] == shown["kept"]
        assert one["raw"]["file"] == f"raw_{one['file']}"


def test_a_measured_engine_says_how_often_it_is_wrong(services, page):
    _, parts = page
    _, seen = opened(services, page)
    assert "was not measured" in seen[parts.sentences]["legend"]
    assert all(row["mark"] == "" for row in seen[parts.sentences]["sentences"])
    engine = services.engine(ENGINE)
    rate = ErrorRate(12, 400, 0.05, 0.0156, 0.0519)
    families = (FamilyRecord("Lung nodule", 0.0, 0.95, rate, rate),)
    measured = Calibration(
        *(0.0, 0.0, -9.0, 0.0, 0.2, 0.8, rate, rate), families=families, measured_on="made-up studies"
    )
    engine.spec = replace(engine.spec, calibration=measured)  # with these weights nothing is ever there
    _, seen = opened(services, page, name="page-2")
    assert "“No support” is said below 20 %" in seen[parts.sentences]["legend"]
    rows = [row for row in seen[parts.sentences]["sentences"] if row["finding"] == "Lung nodule"]
    claims = [row for row in rows if row["existence"] == "present"]
    assert claims
    assert all(row["mark"] == "no support in this scan" for row in claims)
    assert all("wrong in 3 % (12 of 400)" in row["why"] for row in claims)
    others = [row for row in seen[parts.sentences]["sentences"] if row["finding"] == "Pleural effusion"]
    assert all("does not cover pleural effusion" in row["why"] for row in others)


def test_surfaces_are_drawn_in_patient_millimetres(services, page):
    tabs, parts = page
    token, seen = opened(services, page)
    drawn = list(OrganHandlers(services, parts, tabs.organs).draw(token, ENGINE))[-1][tabs.organs.surfaces]
    heart = next(mesh for mesh in drawn.data if mesh.name == "heart")
    centroid = next(row["centroid"] for row in seen[parts.organs]["organs"] if row["name"] == "heart")
    assert sum(heart.x) / len(heart.x) == pytest.approx(centroid[0], abs=8)
    assert sum(heart.z) / len(heart.z) == pytest.approx(centroid[2], abs=8)


def test_an_upload_leaves_the_shared_cache_and_dies_with_its_session(services, page, tmp_path):
    tabs, parts = page
    path = tmp_path / "not a ct.nii.gz"
    path.write_bytes(b"hello")
    session = services.sessions.begin("page-3")
    do = OpenHandlers(services, parts, tabs.opening)
    seen = merge(do.uploaded(session.token, [str(path)], ENGINE, "auto", someone("page-3")))
    assert seen[parts.status]["status"]["kind"] == "error"
    assert not path.exists()
    kept = session.upload
    assert kept.exists()
    services.sessions.end_page("page-3")
    assert not kept.exists()


def test_sessions_do_not_see_each_other(services, page):
    tokens = [opened(services, page, name=f"page-{number}")[0] for number in range(2)]
    first, second = (services.sessions.get(token) for token in tokens)
    assert first.case is not second.case
    assert len(set(tokens)) == 2
    assert not any(one in other for one, other in itertools.permutations(tokens, 2))
    services.sessions.end_page("page-0")
    assert second.case is not None


def test_places_are_said_as_radiologists_say_them():
    assert place_words((-44.6, -86.9, -120.3)) == "L 45, P 87, I 120 mm"
    assert place_words((12.4, 3.0, 7.6)) == "R 12, A 3, S 8 mm"
