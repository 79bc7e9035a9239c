import numpy as np
import pytest

from core.report.mentions import read_sentence
from core.structures import BY_NAME, LOBES
from core.synthesis.claims import KINDS, Claim, mirror_claim
from core.synthesis.compounds import write_compound
from core.synthesis.normality import NORMALITY, write_shared_normality
from core.synthesis.places import ZONES, draw_zones
from core.synthesis.reports import draw_claim
from core.synthesis.scene import Finding, Scene
from core.synthesis.sentences import STYLES, Statement, is_plural, with_article, write_sentence
from core.synthesis.sizes import write_size
from core.synthesis.zones import zones_of
from core.volume import Grid

SAME = {
    "Lung nodule": {"Lung nodule", "cavity", "granuloma", "Lung opacity"},
    "lung mass": {"lung mass", "mass"},
    "liver lesion": {"liver lesion", "hepatic cyst"},
}
"""Findings of the generator that the parser has several names for."""


def mentions_of(fact: Statement) -> list:
    names = SAME.get(fact.finding, {fact.finding})
    return [mention for mention in read_sentence(fact.text).mentions if mention.finding in names]


def single_sentences(count: int, seed: int) -> list[Statement]:
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        kind, existence = str(rng.choice(list(KINDS))), str(rng.choice(["present", "absent", "uncertain"]))
        drawn.append(write_sentence(draw_claim(kind, rng, existence), STYLES[rng.integers(len(STYLES))], rng))
    return drawn


def test_the_parser_reads_out_of_a_sentence_what_was_written_into_it():
    for told in single_sentences(900, 11):
        found = mentions_of(told)
        assert found, told.text
        assert {mention.existence for mention in found} == {told.existence}, told.text
        assert told.laterality in {mention.laterality for mention in found}, told.text
        lobes = {name for name in told.organs if "lobe" in name}
        organs = {name for mention in found for name in mention.organs}
        assert lobes <= organs or "base" in told.text, told.text  # the parser takes a lung's base for all of the lung
        if told.size_mm is not None:
            assert any(abs((mention.size_mm or 0) - told.size_mm) <= 0.51 for mention in found), told.text


def test_sentences_of_several_findings_are_read_apart():
    rng = np.random.default_rng(5)
    for _ in range(300):
        first, second = rng.choice([name for name in KINDS if KINDS[name].place == "lobe"], 2, replace=False).tolist()
        if KINDS[first].finding == KINDS[second].finding:
            continue
        states = (("present", "present"), ("present", "absent"), ("absent", "absent"))[rng.integers(3)]
        claims = [draw_claim(name, rng, state) for name, state in zip((first, second), states, strict=True)]
        told = write_compound(claims, rng)
        assert [fact.existence for fact in told.facts] == list(states)
        for fact in told.facts:
            assert fact.existence in {mention.existence for mention in mentions_of(fact)}, told.text


def test_a_sentence_says_no_more_than_its_claim():
    rng = np.random.default_rng(2)
    claim = Claim("mass", "present", ("lung_upper_lobe_left",), "left", 40.0, zones=("apical",))
    for _ in range(200):
        told = write_sentence(claim, STYLES[rng.integers(len(STYLES))], rng)
        assert set(told.organs) <= {"lung_upper_lobe_left", "lung_left"}
        assert told.laterality == ("left" if told.organs else "")
        words = told.text.lower()
        assert not any(word in words for zone in set(ZONES) - {"apical"} for word in ZONES[zone])


def test_without_vagueness_every_sentence_tells_the_lobe():
    rng = np.random.default_rng(3)
    claim = Claim("consolidation", "present", ("lung_middle_lobe_right",), "right")
    vague = [write_sentence(claim, "brief", rng).organs for _ in range(60)]
    plain = [write_sentence(claim, "brief", rng, is_vague=False).organs for _ in range(60)]
    assert len(set(vague)) == 3  # the lobe, the lung, nothing
    assert set(plain) == {("lung_middle_lobe_right",)}


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("atelectasis", False), ("dilated bronchi", True), ("mass", False), ("areas of consolidation", True),
     ("thickening of the bronchial walls", False), ("nodule with spiculated margins", False)],
)  # fmt: skip
def test_verbs_agree_with_the_head_of_the_noun(noun, plural):
    assert is_plural(noun) is plural


def test_articles():
    assert with_article("irregular mass", KINDS["mass"]) == "an irregular mass"
    assert with_article("RUL nodule", KINDS["solid nodule"]) == "an RUL nodule"
    assert with_article("dilated bronchi", KINDS["bronchiectasis"]) == "dilated bronchi"


def test_sizes_keep_the_order_of_their_diameters():
    rng = np.random.default_rng(0)
    claim = Claim("mass", "present", (), "", 41.0, 30.0, third_mm=22.0)
    texts = {write_size(claim, rng) for _ in range(300)}
    assert {"41 mm", "4.1 cm", "41 x 30 mm", "41 x 30 x 22 mm"} <= texts
    assert write_size(Claim("mass", "present"), rng) == ""


def test_the_mirror_of_the_lingula_has_no_lingula():
    claim = Claim("mass", "present", ("lung_upper_lobe_left",), "left", zones=("lingular", "subpleural"))
    assert mirror_claim(claim).zones == ("subpleural",)
    assert mirror_claim(Claim("mass", "present", ("lung_middle_lobe_right",), "right", zones=("medial",))).zones == (
        "lingular",
    )


def test_drawn_zones_do_not_contradict_each_other():
    rng = np.random.default_rng(0)
    for lobe in LOBES:
        for _ in range(50):
            zones = set(draw_zones(lobe, rng))
            assert zones <= set(ZONES)
            assert not {"anterior", "posterior"} <= zones


def make_scene() -> Scene:
    """A block of left upper lobe, 40 x 30 x 20 voxels of 2 x 2 x 4 mm, in air."""
    labels = np.zeros((60, 50, 40), np.uint8)
    labels[10:50, 10:40, 10:30] = BY_NAME["lung_upper_lobe_left"].number
    return Scene(np.full(labels.shape, -850.0, np.float32), labels, Grid(labels.shape, np.diag([2.0, 2.0, 4.0, 1.0])))


@pytest.mark.parametrize(
    ("corner", "expected"),
    [((12, 35, 27), {"apical", "anterior", "lateral", "subpleural"}), ((46, 12, 18), {"posterior", "medial"}),
     ((28, 34, 11), {"lingular", "anterior", "subpleural"}), ((28, 24, 19), set())],
)  # fmt: skip
def test_zones_follow_the_voxels(corner, expected):
    scene = make_scene()
    mask = np.zeros(scene.labels.shape, bool)
    mask[tuple(slice(at, at + 2) for at in corner)] = True
    finding = Finding(Claim("mass", "present", ("lung_upper_lobe_left",), "left"), mask)
    assert set(zones_of(scene, finding)) == expected


def test_two_structures_can_be_called_normal_at_once():
    rng = np.random.default_rng(0)
    told = write_shared_normality(("heart", "aorta"), rng)
    assert told.organs == ("heart", "aorta")
    assert {"heart", "aorta"} <= set(read_sentence(told.text).organs)


def test_no_normal_sentence_reads_as_a_finding():
    for structure, texts in NORMALITY.items():
        for text in texts:
            reading = read_sentence(text)
            assert all(mention.existence == "absent" for mention in reading.mentions), text
            assert reading.organs, (structure, text)
