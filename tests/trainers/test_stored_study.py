import numpy as np
import pytest

from core.structures import BY_NAME, LOBES
from core.synthesis.claims import KINDS
from core.synthesis.patients import Patient, ViewConfig
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.studies import StudyConfig, make_study
from trainers.cells import (
    CELL_STRUCTURES,
    FINDING_KINDS,
    STRUCTURE_CLASSES,
    classes_of_cells,
    count_in_cells,
    regions_of_kinds,
)
from trainers.stored_study import HU_OF_CODE, encode_hu, read_stored, read_words, store, write_stored


@pytest.fixture(scope="module")
def study():
    phantom = build_phantom(PhantomConfig(shape=(64, 46, 58), spacing_mm=(5.5, 5.5, 5.5), lesions=(), noise_hu=5.0))
    patient = Patient("p", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid)
    config = StudyConfig(ViewConfig((40, 32, 40), 8.0), findings=(3, 4))
    return make_study(patient, config, np.random.default_rng(3))


def test_codes_are_bytes_and_fine_where_tissues_differ():
    assert len(HU_OF_CODE) <= 256
    assert (np.diff(HU_OF_CODE) > 0).all()
    hu = np.linspace(-1024, 1400, 5000).astype(np.float32)
    gap = np.abs(HU_OF_CODE[encode_hu(hu)] - hu)
    assert gap[(hu > -200) & (hu < 300)].max() <= 2.5
    assert gap[hu < -200].max() <= 4.5
    assert gap.max() <= 25
    assert HU_OF_CODE[encode_hu(np.array([-3000.0, 9000.0]))].tolist() == [HU_OF_CODE[0], HU_OF_CODE[-1]]


def test_a_study_comes_back_from_disk(study, tmp_path):
    stored = store(study, ("emphysema",))
    write_stored(stored, tmp_path / "one.safetensors")
    found = read_stored(tmp_path / "one.safetensors")
    np.testing.assert_array_equal(found.codes, stored.codes)
    np.testing.assert_array_equal(found.labels, study.scene.labels)
    np.testing.assert_array_equal(found.regions, stored.regions)
    assert found.words == stored.words
    assert found.words == read_words(tmp_path / "one.safetensors")
    assert found.words.never_denied == ("emphysema",)
    assert (tmp_path / "one.safetensors").stat().st_size < 1.5 * study.scene.hu.size


def test_every_sentence_finds_its_region_and_each_region_is_kept_once(study):
    stored = store(study)
    for statement, facts in zip(study.report.statements, stored.words.statements, strict=True):
        region = study.region(statement)
        assert (facts["region"] >= 0) == region.any()
        if region.any():
            np.testing.assert_array_equal(stored.regions[facts["region"]], region)
    assert len({region.tobytes() for region in stored.regions}) == len(stored.regions)
    for finding in study.findings:
        assert (stored.regions[stored.words.painted[finding.claim.kind]["region"]] | ~finding.mask).all()


def test_cells_count_the_voxels_of_a_region_x_major():
    region = np.zeros((1, 4, 4, 6), bool)
    region[0, 2:4, 0:2, 2:4] = True  # all of cell (1, 0, 1) of 2 x 2 x 3
    region[0, 0, 3, 5] = True  # one voxel of cell (0, 1, 2)
    counts = count_in_cells(region)
    assert counts.dtype == np.uint8
    assert counts[0].nonzero()[0].tolist() == [5, 7]
    assert counts[0, [5, 7]].tolist() == [1, 8]


def test_cells_know_their_structure():
    assert tuple(CELL_STRUCTURES)[:5] == LOBES
    labels = np.zeros((4, 2, 2), np.uint8)
    labels[2:] = BY_NAME["lung_lower_lobe_left"].number
    assert classes_of_cells(labels).tolist() == [0, 1 + LOBES.index("lung_lower_lobe_left")]
    assert len(CELL_STRUCTURES) + 1 == STRUCTURE_CLASSES


def test_kinds_are_there_absent_or_unknown():
    numbers = dict(
        zip(
            FINDING_KINDS,
            regions_of_kinds({"mass": {"organs": [], "region": 2}}, ("solid nodule",)).tolist(),
            strict=True,
        )
    )
    assert numbers["mass"] == 2
    assert numbers["emphysema"] == -1
    same = [kind for kind in KINDS if KINDS[kind].finding == KINDS["solid nodule"].finding]
    assert all(numbers[kind] == -2 for kind in same)
