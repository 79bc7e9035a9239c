"""Runs of every recipe as engines: what they see where, which sentence is read as which organ, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_folders import TEXTS, words, write_run
from scipy.ndimage import binary_dilation

from core.anatomy.masks import OrganMasks
from core.errors import CheckpointError, EngineError, StudyError
from core.findings import CT_RATE_LABELS
from core.grounding.findings18 import judge_organs, score_findings
from core.grounding.model_folder import inspect_folder, open_folder
from core.grounding.normality import draw_normality, require_normality, summarise_normality
from core.grounding.organ_view import read_organs
from core.grounding.readout import SentenceQuery, ground_sentences, make_canvas
from core.grounding.registry import list_engines, load_engine, normality_engines, runnable_engines
from core.models.organ_cells import read_cells
from core.models.organ_pool import organ_tokens
from core.models.visd import VISD
from core.structures import BY_NAME, parts_of
from core.synthesis.phantom import PhantomConfig, build_phantom

RECIPES = ["asap", "asg", "fvlm", "visd", "visd_vit"]
ORGAN_RECIPES = ["fvlm", "visd", "visd_vit"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with one run of each recipe."""
    folder = tmp_path_factory.mktemp("models")
    for kind in (*RECIPES, "ecamp"):
        (folder / f"my_{kind}").mkdir()
        write_run(folder / f"my_{kind}", kind)
    return folder


@pytest.fixture(scope="module")
def phantoms():
    return {axes: build_phantom(PhantomConfig((60, 44, 56), (6.0, 6.0, 6.0), axes)) for axes in ("RAS", "LPS", "PIR")}


def query(text: str, *organs: str) -> SentenceQuery:
    return SentenceQuery(1, text, f"Not {text}", organs)


def near(canvas, organ: str) -> np.ndarray:
    """Where heat of a sentence about `organ` may be: in it or within 8 mm."""
    return binary_dilation(np.isin(canvas.labels, sorted(parts_of(organ))), iterations=2)


def ground(engine, phantom, *queries: SentenceQuery):
    features = engine.embed_volume(phantom.volume, phantom.masks)
    canvas = make_canvas(phantom.volume, features, phantom.masks)
    return ground_sentences(engine, features, canvas, queries), canvas


# --------------------------------------------------------------------- all recipes


@pytest.mark.parametrize("kind", RECIPES)
def test_any_run_in_the_models_folder_is_an_engine(models, phantoms, tmp_path, kind):
    name = f"my_{kind}"
    assert name in runnable_engines(tmp_path, models)
    engine = load_engine(name, tmp_path, models, "cpu")
    assert engine.name == name
    peaks = {}
    for axes, phantom in phantoms.items():
        found, canvas = ground(engine, phantom, query(TEXTS[0], "lung"), query(TEXTS[1], "heart"))
        for one in found:
            assert one.map.heat.dtype == np.float32
            assert (float(one.map.heat.min()), float(one.map.heat.max())) == (0.0, pytest.approx(1.0, abs=0.01))
            assert 0 <= one.probability <= 1
        assert not found[1].map.heat[~near(canvas, "heart")].any()
        peaks[axes] = [one.peak_ras_mm for one in found]
    np.testing.assert_allclose(peaks["LPS"], peaks["RAS"], atol=0.1)
    np.testing.assert_allclose(peaks["PIR"], peaks["RAS"], atol=0.1)


@pytest.mark.parametrize("kind", RECIPES)
def test_reports_and_studies_are_unit_vectors_of_one_space(models, phantoms, kind):
    engine = open_folder(models / f"my_{kind}")
    features = engine.embed_volume(phantoms["RAS"].volume, phantoms["RAS"].masks)
    sentences, report = engine.embed_sentences([*TEXTS, ""]), engine.embed_report(TEXTS)
    assert report.shape == features.study_vector.shape == sentences.shape[1:]
    np.testing.assert_allclose(np.linalg.norm(report), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(features.study_vector), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(sentences, axis=1), [1, 1, 1, 0], atol=1e-4)
    assert features.vectors.shape[:3] == features.covered.shape == features.grid.shape


def test_a_run_without_a_common_space_is_no_engine_and_says_so(models, tmp_path):
    state = {one.name: one for one in list_engines(tmp_path, models)}["my_ecamp"]
    assert not state.can_run
    assert "not defined for this recipe" in state.lacks
    with pytest.raises(EngineError, match="not defined for this recipe"):
        load_engine("my_ecamp", tmp_path, models, "cpu")


# ------------------------------------------------------------------ organs and texts


@pytest.mark.parametrize("kind", ORGAN_RECIPES)
@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_a_patch_is_read_as_the_model_reads_an_organ_cut_down_to_it(tmp_path, phantoms, kind, axes):
    """By the published pooling on the image as the model wants it, in the patient's place."""
    model = write_run(tmp_path, kind, axes=axes)
    engine, phantom = open_folder(tmp_path), phantoms["LPS"]
    features = engine.embed_volume(phantom.volume, phantom.masks)
    view = read_organs(phantom.volume, phantom.masks, engine.organs, engine.view)
    flip = (slice(None, None, -1),) * 2 if axes == "LPS" else (slice(None),)
    image = torch.from_numpy(view.image[flip].copy())[None, None]
    mask = torch.from_numpy(view.mask[flip].copy())[None].long()
    whole = model.organ_embed({"image": image, "organ_mask": mask})[0]
    present = [o for o in range(4) if (view.mask == o + 1).any()]
    np.testing.assert_allclose(features.organs.whole[present], whole.detach()[present], atol=1e-4)
    shares = features.organs.shares[0]
    place, patch = np.array(np.unravel_index(shares.argmax(), shares.shape)), engine.view.patch_size
    only = np.zeros_like(view.mask)
    box = tuple(slice(i * p, (i + 1) * p) for i, p in zip(place, patch, strict=True))
    only[box] = view.mask[box]
    assert features.organs.shares[0][tuple(place)] == pytest.approx((only[box] == 1).mean(), abs=1e-6)
    cut = torch.from_numpy(only[flip].copy())[None].long()
    alone = embed_cut(model, image, mask, cut).detach().numpy()
    np.testing.assert_allclose(features.organs.vectors[0][tuple(place)], alone, atol=1e-4)
    np.testing.assert_allclose(view.patches.to_mm(place), view.grid.to_mm(place * patch + (np.array(patch) - 1) / 2))


def embed_cut(model, image, mask, cut) -> torch.Tensor:
    """The first organ's vector (E,) when its mask is cut down; its normal version stays that of the whole organ."""
    if not isinstance(model, VISD):
        return model.organ_embed({"image": image, "organ_mask": cut})[0, 0]
    encoder, whole = model.visual_encoder, model.describe(image, mask)
    levels = encoder(image)
    base = levels[-1][:, None].expand(-1, 4, -1, -1)
    flags = [organ_tokens(encoder.turn(cut), 4, step) for step in encoder.strides]
    pooled = model.pool.pool_levels(levels, flags, whole.tokens.spread(whole.normal.restored, base))
    return model.pool.project_all(pooled)[0, 0]


def test_a_bright_spot_changes_the_patch_that_holds_it_most(tmp_path, phantoms):
    for axes in ("RAS", "LPS"):
        write_run(tmp_path, "fvlm", axes=axes)
        engine, phantom = open_folder(tmp_path), phantoms["PIR"]
        before = engine.embed_volume(phantom.volume, phantom.masks)
        lung = np.argwhere(before.organs.shares[0] > 0.6)
        place = tuple(lung[0])
        spot = phantom.volume.grid.nearest_voxel(before.grid.to_mm(place))
        changed = phantom.volume.hu.copy()
        changed[tuple(slice(max(0, at - 2), at + 3) for at in spot)] = 1000
        after = engine.embed_volume(replace(phantom.volume, hu=changed), phantom.masks)
        moved = np.linalg.norm(after.organs.vectors[0] - before.organs.vectors[0], axis=-1)
        assert np.unravel_index(moved.argmax(), moved.shape) == place


def test_a_sentence_is_read_as_the_organ_it_names(models, phantoms):
    engine, phantom = open_folder(models / "my_fvlm"), phantoms["RAS"]
    features = engine.embed_volume(phantom.volume, phantom.masks)
    organs = features.organs
    for named, number in (("lung_left", 0), ("pleura", 0), ("coronary_arteries", 1), ("esophagus", 2), ("aorta", 3)):
        found = features.readable((named,))
        assert set(np.unique(found.organ)) == {number}
        np.testing.assert_array_equal(found.covered, organs.shares[number] > 0)
        np.testing.assert_array_equal(found.vectors, organs.vectors[number])
    anywhere = features.readable(())
    np.testing.assert_array_equal(anywhere.covered, (organs.shares > 0).any(axis=0))
    both = features.readable(("heart", "aorta"))
    place = np.unravel_index(organs.shares[3].argmax(), organs.shares[3].shape)
    assert both.organ[place] == (3 if organs.shares[3][place] > organs.shares[1][place] else 1)
    assert features.are_rivals(("lung_left",), ("pleura",))
    assert not features.are_rivals(("lung_left",), ("aorta",))
    assert features.are_rivals((), ("aorta",))


def test_an_organ_that_the_model_does_not_know_has_no_heat_and_no_verdict(models, phantoms):
    engine, phantom = open_folder(models / "my_fvlm"), phantoms["RAS"]
    (one,), canvas = ground(engine, phantom, query("liver cyst", "liver"))
    assert not one.map.heat.any()
    assert (one.probability, one.score, one.organs) == (0.5, 0.0, {})
    assert all(np.isfinite(one.peak_ras_mm))
    (one,), canvas = ground(engine, phantom, query("nodule", "lung_left"))
    assert not one.map.heat[~near(canvas, "lung_left")].any()


def test_heat_takes_its_floor_from_the_organ_and_nothing_from_other_patches(models, phantoms):
    engine, phantom = open_folder(models / "my_fvlm"), phantoms["RAS"]
    features = engine.embed_volume(phantom.volume, phantom.masks)
    canvas = make_canvas(phantom.volume, features, phantom.masks)
    plain = ground_sentences(engine, features, canvas, [query(TEXTS[0], "heart")])[0]
    elsewhere = features.organs.shares[1] == 0
    vectors = features.organs.vectors.copy()
    vectors[1][elsewhere] = -vectors[1][elsewhere]
    changed = replace(features, organs=replace(features.organs, vectors=vectors))
    again = ground_sentences(engine, changed, canvas, [query(TEXTS[0], "heart")])[0]
    np.testing.assert_array_equal(again.map.heat, plain.map.heat)
    assert plain.organs["heart"] > 0.3


def test_presence_is_told_by_the_organ_as_a_whole(models, phantoms):
    engine, phantom = open_folder(models / "my_fvlm"), phantoms["RAS"]
    (one,), _ = ground(engine, phantom, query(TEXTS[0], "heart"))
    features = engine.embed_volume(phantom.volume, phantom.masks)
    told, denied = engine.embed_sentences([TEXTS[0], f"Not {TEXTS[0]}"]) @ features.organs.whole[1]
    assert one.probability == pytest.approx(1 / (1 + np.exp(-(told - denied) / 0.07)), abs=1e-4)


@pytest.mark.parametrize("kind", ["fvlm", "visd"])
def test_findings_follow_the_published_protocol(models, phantoms, kind):
    """Each organ alone in its window; what the protocol does not ask, or whose organ is missing, cannot be told."""
    engine, phantom = open_folder(models / f"my_{kind}"), phantoms["RAS"]
    without = phantom.masks.labels.copy()
    without[np.isin(without, sorted(parts_of("aorta")))] = 0
    masks = OrganMasks(without, "test")
    features = engine.embed_volume(phantom.volume, masks)
    judged = judge_organs(engine, phantom.volume, masks)
    scores = score_findings(engine, features, make_canvas(phantom.volume, features, masks), judged)
    found = {one.name: one.probability for one in scores}
    assert tuple(found) == CT_RATE_LABELS
    for name in ("Medical material", "Lymphadenopathy", "Arterial wall calcification"):
        assert found[name] == 0.5
    prompts = engine.prompts()
    assert prompts["Lung nodule"].positive == ("Nodule." if kind == "fvlm" else "Lung nodule.")
    assert prompts["Cardiomegaly"][:2] == ("heart", "Cardiomegaly.")
    view = read_organs(phantom.volume, masks, engine.organs, engine.view)
    if view.image.shape == engine.view.image_size:  # then the windows are the whole view
        heart = torch.from_numpy(np.where(view.mask == 2, 2, 0))[None]
        vector = read_cells(engine._model, torch.from_numpy(view.image)[None, None], heart).whole[1].numpy()
        yes, no = engine.embed_sentences(["Cardiomegaly.", "Not Cardiomegaly."]) @ vector
        assert found["Cardiomegaly"] == pytest.approx(1 / (1 + np.exp(-(yes - no) / 0.07)), abs=1e-4)
    assert len({round(value, 6) for value in judged.values()}) > 5


def test_without_masks_or_organs_the_person_is_told(models, phantoms):
    engine, volume = open_folder(models / "my_fvlm"), phantoms["RAS"].volume
    with pytest.raises(StudyError, match="there are no organ masks"):
        engine.embed_volume(volume)
    liver = np.full(volume.shape, BY_NAME["liver"].number, np.uint8)
    with pytest.raises(StudyError, match="masks hold none of them"):
        engine.embed_volume(volume, OrganMasks(liver, "test"))


def test_the_view_holds_organs_that_are_larger_than_the_training_crop(models, phantoms):
    engine, phantom = open_folder(models / "my_visd"), phantoms["RAS"]
    view = read_organs(phantom.volume, phantom.masks, engine.organs, engine.view)
    assert all(n % p == 0 for n, p in zip(view.image.shape, engine.view.patch_size, strict=True))
    lung = np.argwhere(phantom.masks.mask("lung"))
    corners = view.grid.to_voxel(phantom.volume.grid.to_mm([lung.min(axis=0), lung.max(axis=0)]))
    assert (corners >= -0.5).all()
    assert (corners <= np.array(view.grid.shape) - 0.5).all()
    assert view.image.min() >= 0
    assert view.image.max() <= 1


# ------------------------------------------------------------------------ what is normal


@pytest.mark.parametrize("kind", ["visd", "visd_vit"])
@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_distances_from_normal_lie_where_the_model_saw_them(tmp_path, phantoms, kind, axes):
    """In patient millimetres, whichever way the model's axes and the file's run."""
    model = write_run(tmp_path, kind, axes=axes)
    engine, phantom = open_folder(tmp_path), phantoms["PIR"]
    found = engine.measure_normality(phantom.volume, phantom.masks)
    view = read_organs(phantom.volume, phantom.masks, engine.organs, engine.view)
    flip = (slice(None, None, -1),) * 2 if axes == "LPS" else (slice(None),)
    image, mask = (torch.from_numpy(part[flip].copy())[None] for part in (view.image, view.mask))
    wanted = model.anomaly_map(image[None], mask.long())[0].detach().numpy()
    np.testing.assert_allclose(found.distances, wanted[(slice(None), *flip)], atol=1e-5)
    assert (found.distances[~found.inside] == 0).all()
    told = summarise_normality(found)
    assert set(told) == {"lung", "heart", "esophagus", "aorta"}
    drawn = draw_normality(found, phantom.volume, phantom.masks)
    assert drawn.shape == phantom.volume.shape
    assert (drawn[phantom.masks.labels == BY_NAME["liver"].number] == 0).all()
    heart, values = phantom.masks.mask("heart"), found.distances[1][found.inside[1]]
    assert set(drawn[heart].tolist()) <= set(values.tolist())
    place = np.argwhere(heart & (drawn == drawn[heart].max()))[0]
    at = np.rint(found.grid.to_voxel(phantom.volume.grid.to_mm(place))).astype(int)
    assert found.distances[1][tuple(at)] == drawn[tuple(place)]
    assert told["heart"].highest == values.max()


def test_only_visd_knows_normal_organs(models, phantoms):
    assert normality_engines(models / "none", models) == ["my_visd", "my_visd_vit"]
    with pytest.raises(EngineError, match="no model of normal organs"):
        require_normality(open_folder(models / "my_fvlm"))
    with pytest.raises(StudyError, match="no organ masks"):
        open_folder(models / "my_visd").measure_normality(phantoms["RAS"].volume, None)


# ------------------------------------------------------------------------ what lacks


def test_published_engines_say_which_file_and_which_command(tmp_path):
    states = {state.name: state for state in list_engines(tmp_path, tmp_path / "models")}
    assert not any(states[name].can_run for name in ("asap", "fvlm", "visd", "colipri"))
    for name, file in (("asap", "ASAP.pth"), ("fvlm", "alibaba-damo-academy/fvlm"), ("visd", "checkpoint_vqvae.pth")):
        assert file in states[name].lacks
        assert f"python -m trainers.import_weights --source {name} " in states[name].lacks
        assert f"--out models/{name}" in states[name].lacks
        assert "vocab.txt" in states[name].lacks
    assert "requirements-colipri.txt" in states["colipri"].lacks
    assert "model.safetensors of Microsoft's colipri" in states["colipri"].lacks


def test_a_vocabulary_beside_the_weights_is_found(tmp_path):
    write_run(tmp_path / "x", "fvlm")
    strip(tmp_path / "x" / "model.safetensors", "tokenizer")
    assert "vocabulary" in inspect_folder(tmp_path / "x").lacks
    with pytest.raises(EngineError, match=r"Missing in x: the vocabulary .* vocab.txt"):
        open_folder(tmp_path / "x")
    (tmp_path / "x" / "cxrbert_wordpiece.json").write_text(words().to_json())
    assert inspect_folder(tmp_path / "x").lacks == ""
    assert open_folder(tmp_path / "x").name == "x"


def test_folders_that_are_no_models_are_told_apart(tmp_path):
    assert inspect_folder(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"x" * 40)
    assert "no model file of this program" in inspect_folder(tmp_path).lacks
    write_run(tmp_path, "fvlm")
    strip(tmp_path / "model.safetensors", "recipe", {"recipe": "medclip"})
    assert "does not know" in inspect_folder(tmp_path).lacks
    write_run(tmp_path, "fvlm", organs=json.dumps({"organs": {"heart": ["heart"]}}))
    with pytest.raises(CheckpointError, match="trained on lung, heart, esophagus, aorta, its organ map has heart"):
        open_folder(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "nan"])
def test_damaged_weights_of_a_run_are_refused(tmp_path, damage):
    write_run(tmp_path, "fvlm")
    strip(tmp_path / "model.safetensors", "", damage=damage)
    told = "Missing: text_proj.bias" if damage == "missing" else "NaN or infinite weights in text_proj.bias"
    with pytest.raises(CheckpointError, match=told):
        open_folder(tmp_path)


def strip(path, entry, more=None, damage=""):
    """Rewrite a model file without an entry of its metadata, or with damaged weights."""
    from core.models.checkpoint import read_weights, write_tensors

    tensors, metadata = read_weights(path)
    metadata.pop(entry, None)
    if damage == "missing":
        del tensors["text_proj.bias"]
    if damage == "nan":
        tensors["text_proj.bias"][0] = torch.nan
    write_tensors(path, tensors, metadata | (more or {}))
