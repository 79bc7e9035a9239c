from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.models.tokens import train_wordpiece
from core.structures import BY_NAME
from core.synthesis.claims import KINDS
from core.synthesis.patients import MIRROR, Patient, ViewConfig, erase_lesion, vary_patient
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.reports import generate_reports
from core.synthesis.studies import StudyConfig, make_study
from core.synthesis.surroundings import NO_SURROUNDINGS
from trainers.batch import ASAP_REQUIRES, check_batch, collate
from trainers.patients import read_patients, write_patient
from trainers.synthetic import SyntheticConfig, SyntheticStudies, class_map, patch_shares

STILL = ViewConfig((40, 32, 40), 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False, 0.0, 0.0, NO_SURROUNDINGS)


@pytest.fixture(scope="module")
def patient():
    phantom = build_phantom(PhantomConfig(shape=(64, 46, 58), spacing_mm=(5.5, 5.5, 5.5), lesions=(), noise_hu=5.0))
    return Patient("p", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid, ("emphysema",))


@pytest.fixture(scope="module")
def studies(patient, tmp_path_factory):
    root = tmp_path_factory.mktemp("patients")
    write_patient(patient, root / "p")
    tokenizer = train_wordpiece([report.findings for report in generate_reports(40, 0)], 500)
    view = ViewConfig((40, 32, 40), 8.0)
    config = SyntheticConfig(
        root, phantoms=0, count=6, study=StudyConfig(view), crop=(32, 24, 32), cache_dir=root / "cache"
    )
    return SyntheticStudies(config, tokenizer)


def test_a_patient_comes_back_from_disk(patient, studies):
    found = read_patients(studies.config.patients_dir)[0]
    np.testing.assert_array_equal(found.hu, patient.hu)
    np.testing.assert_array_equal(found.labels, patient.labels)
    assert found.never_denied == ("emphysema",)
    with pytest.raises(ConfigError, match="No patient under"):
        read_patients(studies.config.patients_dir, without=("p",))


def test_an_unvaried_view_shows_the_patient_in_place(patient):
    scene = vary_patient(patient, STILL, np.random.default_rng(0))
    for name in ("heart", "liver", "lung_left"):
        seen = scene.grid.to_mm(np.argwhere(scene.mask(name))).mean(axis=0)
        true = patient.grid.to_mm(np.argwhere(patient.labels == BY_NAME[name].number))
        if len(true):
            np.testing.assert_allclose(seen, true.mean(axis=0), atol=6.0)


def test_mirroring_moves_the_image_and_renames_the_sides(patient):
    plain = vary_patient(patient, STILL, np.random.default_rng(0))
    mirrored = vary_patient(patient, replace(STILL, mirror_chance=1.0), np.random.default_rng(0))
    np.testing.assert_allclose(mirrored.hu, plain.hu[::-1], atol=1.0)
    np.testing.assert_array_equal(mirrored.labels, MIRROR[plain.labels[::-1]])
    x = [mirrored.grid.to_mm(np.argwhere(mirrored.mask(f"lung_{side}")))[:, 0].mean() for side in ("left", "right")]
    assert x[0] < x[1]  # left is still on the left


def test_an_erased_lesion_leaves_lung_with_its_lobe(patient):
    hu, labels = patient.hu.copy(), patient.labels.copy()
    lobe = BY_NAME["lung_lower_lobe_left"].number
    middle = np.rint(np.argwhere(labels == lobe).mean(axis=0)).astype(int)
    ball = ((np.indices(hu.shape) - middle[:, None, None, None]) ** 2).sum(axis=0) <= 4
    hu[ball], labels[ball] = 40, 0
    erased = erase_lesion(Patient("q", hu, labels, patient.grid), ball)
    assert np.median(erased.hu[ball]) < -600
    assert (erased.labels[ball] == lobe).all()
    far = ~ball & (np.abs(erased.hu.astype(int) - hu) > 0)
    assert far.sum() < 1500


def test_regions_are_where_the_sentences_say(patient):
    for seed in range(6):
        study = make_study(patient, StudyConfig(ViewConfig((40, 32, 40), 8.0)), np.random.default_rng(seed))
        for statement in study.report.statements:
            region = study.region(statement)
            assert region.any() == (statement.existence != "absent" or statement.kind == "normal")
            if statement.kind != "normal" and not statement.also and statement.laterality in ("left", "right"):
                other = "right" if statement.laterality == "left" else "left"
                assert not (region & study.scene.mask(f"lung_{other}")).any()


def test_what_a_patient_may_have_is_never_denied(patient):
    for seed in range(12):
        study = make_study(patient, StudyConfig(ViewConfig((40, 32, 40), 8.0)), np.random.default_rng(seed))
        painted = {finding.claim.finding for finding in study.findings}
        denied = {s.finding for s in study.report.statements if s.existence == "absent" and s.finding}
        assert not denied & (painted | {KINDS["emphysema"].finding})


def test_items_make_a_batch_that_the_recipe_accepts(studies):
    batch = collate([studies[0], studies[1]])
    check_batch(batch, (*ASAP_REQUIRES, "sentence_target", "sentence_target_valid"))
    assert batch["image"].shape == (2, 1, 32, 24, 32)
    assert batch["image"].min() >= -1
    assert batch["image"].max() <= 1
    assert batch["sentence_target"].shape[2] == 4 * 3 * 4
    for sentences, target in zip(batch["findings_sent"], batch["sentence_target_valid"], strict=True):
        assert sentences.max() == target.sum()


def test_claims_beside_the_report_leave_the_report_as_it_was(studies):
    asking = SyntheticStudies(replace(studies.config, false_claims=3), studies.tokenizer)
    plain, asked = studies[1], asking[1]
    assert all(torch.equal(plain[key], asked[key]) for key in plain if key != "study_id")
    batch = collate([asking[number] for number in range(4)])
    check_batch(batch, ("asked_ids", "asked_attn", "asked_target", "asked_valid"))
    np.testing.assert_array_equal(batch["asked_region"][batch["asked_target"].any(dim=-1)] >= 0, True)
    is_true = batch["asked_target"].any(dim=-1)
    assert is_true.any()
    assert (batch["asked_valid"] & ~is_true).any()
    asking.set_epoch(1)
    again = [asking[number]["asked_ids"] for number in range(4)]
    asking.set_epoch(0)
    assert any(not torch.equal(one, asking[number]["asked_ids"]) for number, one in enumerate(again))


def test_cells_and_patches_tell_the_same_truth(studies):
    told = SyntheticStudies(replace(studies.config, false_claims=3, cells=True, jitter_hu=10.0), studies.tokenizer)
    batch = collate([told[number] for number in range(4)])
    check_batch(batch, ("region_cells", "cell_class", "kind_region", "asked_region"))
    for study in range(4):
        cells = batch["region_cells"][study].reshape(-1, 16, 12, 16).float()
        for target, region in zip(batch["asked_target"][study], batch["asked_region"][study], strict=True):
            if region >= 0:
                in_patches = torch.nn.functional.avg_pool3d(cells[region][None], 4) / 8
                torch.testing.assert_close(in_patches.flatten(), target)


def test_an_image_shows_hu_within_the_window(studies):
    stored, sample = studies.stored(0), studies[0]
    low, high = studies.config.window_hu
    whole = np.clip((stored.hu((slice(None),) * 3) - low) / (high - low), 0, 1) * 2 - 1
    image = sample["image"][0].numpy()
    places = np.argwhere(np.isclose(np.lib.stride_tricks.sliding_window_view(whole, (32, 24, 32))[..., 0, 0, 0],
                                    image[0, 0, 0]))  # fmt: skip
    assert any(np.allclose(whole[x : x + 32, y : y + 24, z : z + 32], image, atol=1e-5) for x, y, z in places)


def test_an_item_depends_on_index_and_epoch_only(studies):
    studies.set_epoch(0)
    first, again = studies[2], studies[2]
    studies.set_epoch(1)
    later = studies[2]
    studies.set_epoch(0)
    assert all(torch.equal(first[key], again[key]) for key in first if key != "study_id")
    assert not torch.equal(first["mlm_in"], later["mlm_in"])
    assert torch.equal(first["report_ids"], later["report_ids"])


def test_patch_shares_are_counted_x_major():
    region = np.zeros((1, 4, 4, 4), bool)
    region[0, 2, 0, 2] = True  # patch (1, 0, 1) of a 2x2x2 grid
    shares = patch_shares(region, (2, 2, 2))
    assert shares[0].tolist() == [0, 0, 0, 0, 0, 0.125, 0, 0]


def test_classes_are_those_of_the_table():
    labels = np.array([0, BY_NAME["lung_upper_lobe_left"].number, BY_NAME["trachea"].number, BY_NAME["liver"].number])
    assert class_map(labels.astype(np.uint8)).tolist() == [0, 1, 8, 0]


def test_a_crop_larger_than_the_view_is_refused():
    with pytest.raises(ConfigError, match="fit into the view"):
        SyntheticConfig(crop=(96, 64, 80))
