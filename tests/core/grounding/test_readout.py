"""Heat must peak where the matching patch lies, in millimetres, whatever the axes of the file."""

from dataclasses import dataclass

import nibabel.orientations as nio
import numpy as np
import pytest

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.grounding.engine import PatchFeatures
from core.grounding.findings18 import score_findings
from core.grounding.heatmap import support_of
from core.grounding.query import query_of
from core.grounding.readout import (
    ReadoutConfig,
    SentenceQuery,
    ground_sentences,
    heat_on_source,
    make_canvas,
    peak_on_source,
)
from core.report.parse import parse_report
from core.resample import target_grid
from core.structures import BY_NAME
from core.volume import Volume

TARGET_MM = np.array([30.0, -30.0, 10.0])
WORDS = ("nodule", "other", "unknown")


@dataclass
class WordEngine:
    """An engine with one direction per word: patches near TARGET_MM say "nodule", all others "other"."""

    name: str = "words"
    needs_masks: bool = False

    def embed_volume(self, volume, masks=None, progress=None):
        grid = target_grid(np.zeros(3), (8, 8, 8), np.full(3, 20.0))
        voxels = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), axis=-1)
        near = np.linalg.norm(grid.to_mm(voxels) - TARGET_MM, axis=-1) < 12
        vectors = np.where(near[..., None], self.vector("nodule"), self.vector("other")).astype(np.float32)
        return PatchFeatures(vectors, grid, np.ones((8, 8, 8), bool), self.vector("other"), self.name)

    def vector(self, text):
        found = [word for word in WORDS if word in text] or ["unknown"]
        vector = np.array([word in found for word in WORDS], np.float32)
        return (-1 if " no " in text else 1) * vector / np.linalg.norm(vector)

    def embed_sentences(self, sentences):
        return np.stack([self.vector(text) for text in sentences])

    def embed_report(self, sentences):
        return self.embed_sentences(sentences).mean(axis=0)

    def presence_probability(self, score, negated_score):
        return float(1 / (1 + np.exp(-4 * (score - negated_score))))


def volume_stored_as(axes: str, tilt_deg: float = 0.0) -> Volume:
    shape = {"RAS": (100, 80, 40), "LPS": (100, 80, 40), "PIR": (80, 40, 100)}[axes]
    spacing = {"RAS": (1.6, 2.0, 4.0), "LPS": (1.6, 2.0, 4.0), "PIR": (2.0, 4.0, 1.6)}[axes]
    turn = nio.inv_ornt_aff(nio.axcodes2ornt(tuple(axes)), shape)
    scaled = turn @ np.diag([*spacing, 1.0])
    scaled[:3, 3] -= (scaled @ [*((np.array(shape) - 1) / 2), 1])[:3]
    angle = np.radians(tilt_deg)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Volume.from_source(np.zeros(shape, np.int16), tilt @ scaled)


QUERIES = [
    SentenceQuery(1, "a nodule", "there is no nodule"),
    SentenceQuery(2, "other things", "there is no other"),
]


@pytest.mark.parametrize(("axes", "tilt_deg"), [("RAS", 0), ("LPS", 0), ("PIR", 0), ("LPS", 9)])
def test_the_peak_and_the_exported_heat_lie_at_the_matching_patch(axes, tilt_deg):
    volume, engine = volume_stored_as(axes, tilt_deg), WordEngine()
    features = engine.embed_volume(volume)
    nodule, _ = ground_sentences(engine, features, make_canvas(volume, features, None), QUERIES)
    assert np.linalg.norm(nodule.peak_ras_mm - TARGET_MM) < 6
    heat = heat_on_source(nodule, volume)
    assert heat.shape == volume.source.shape
    assert heat.dtype == np.float32
    assert 0 <= heat.min() < heat.max() <= 1
    peak = volume.source.to_mm(peak_on_source(heat, nodule, volume))
    assert np.linalg.norm(peak - nodule.peak_ras_mm) < 3  # half a voxel of the coarsest axis is 2 mm
    brightest = volume.source.to_mm(np.argwhere(heat > 0.9 * heat.max()).mean(axis=0))
    assert np.linalg.norm(brightest - TARGET_MM) < 8


def test_a_named_organ_keeps_the_heat_on_its_side():
    volume, engine = volume_stored_as("RAS"), WordEngine()
    features = engine.embed_volume(volume)
    x = np.arange(100)[:, None, None] * np.ones(volume.shape)
    labels = np.where(x < 50, BY_NAME["lung_left"].number, BY_NAME["lung_right"].number).astype(np.uint8)
    canvas = make_canvas(volume, features, OrganMasks(labels, "test"))
    (left,) = ground_sentences(engine, features, canvas, [SentenceQuery(1, "a nodule", "no nodule", ("lung_left",))])
    assert left.peak_ras_mm[0] < 10  # the matching patch is at +30 mm, on the right
    lit = canvas.grid.to_mm(np.argwhere(left.map.heat > 0))
    assert lit[:, 0].max() <= 12
    (anywhere,) = ground_sentences(engine, features, canvas, [SentenceQuery(1, "a nodule", "no nodule")])
    assert list(anywhere.organs)[0] == "lung_right"


READ = [
    query_of(parse_report(text).sentences[0]) for text in ("A nodule is seen.", "There is a nodule.", "Tiny nodule.")
]
UNREAD = [SentenceQuery(n, f"{word} nodule", "no nodule") for n, word in enumerate(("one", "a", "this"), start=1)]


@pytest.mark.parametrize("wordings", [READ, UNREAD])
def test_other_wordings_of_a_finding_take_nothing_from_its_heat(wordings):
    volume, engine = volume_stored_as("RAS"), WordEngine()
    features = engine.embed_volume(volume)
    canvas = make_canvas(volume, features, None)
    for grounding in ground_sentences(engine, features, canvas, wordings):
        assert np.linalg.norm(np.array(grounding.peak_ras_mm) - TARGET_MM) < 6
        assert grounding.map.heat[tuple(canvas.grid.nearest_voxel(TARGET_MM))] > 0.9


def test_support_comes_from_the_margin_to_the_negation():
    volume, engine = volume_stored_as("RAS"), WordEngine()
    features = engine.embed_volume(volume)
    canvas = make_canvas(volume, features, None)
    found, missing = ground_sentences(
        engine, features, canvas, [QUERIES[0], SentenceQuery(2, "an unknown", "other things")]
    )
    assert found.support == "supported"
    assert found.margin > 0.9
    assert missing.support == "no support"
    assert support_of(0.5) == "cannot tell"


def test_eighteen_findings_in_the_order_of_the_labels():
    volume, engine = volume_stored_as("RAS"), WordEngine()
    features = engine.embed_volume(volume)
    findings = score_findings(engine, features, make_canvas(volume, features, None))
    assert len(findings) == 18
    best = max(findings, key=lambda finding: finding.probability)
    assert best.name == "Lung nodule"
    assert np.linalg.norm(np.array(best.peak_ras_mm) - TARGET_MM) < 6


@pytest.mark.parametrize("wrong", [{"spacing_mm": 0}, {"floor_quantile": 1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        ReadoutConfig(**wrong)
