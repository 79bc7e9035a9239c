import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from core.errors import ConfigError, StorageError, StudyError
from core.organ_map import ORGAN_MAPS
from core.structures import BY_NAME
from core.volume import Grid
from trainers.store.layout import PART, StoreSettings, clear_abandoned, list_studies, make_store, study_folder
from trainers.store.reading import StudyStore
from trainers.store.writing import PreparedStudy, write_study

SETTINGS = StoreSettings(chunk=(16, 16, 8), patch=(8, 8, 4))
SHAPE = (50, 41, 23)
AFFINE = np.array([[1.5, 0, 0, -40], [0, 1.5, 0, 7], [0, 0, 3.0, 120], [0, 0, 0, 1]])
HEART, AORTA = BY_NAME["heart"].number, BY_NAME["aorta"].number


def a_study(study_id="a", shape=SHAPE, with_structures=True) -> PreparedStudy:
    rng = np.random.default_rng(len(study_id))
    hu = rng.integers(-1000, 1000, shape).astype(np.int16)
    structures = np.zeros(shape, np.uint8)
    structures[5:20, 10:30, 3:9] = HEART
    structures[20:22, 30:33, 9:15] = AORTA
    return PreparedStudy(study_id, hu, Grid(shape, AFFINE), structures if with_structures else None, {"file": "a.nii"})


@pytest.fixture
def root(tmp_path):
    make_store(tmp_path / "store", SETTINGS)
    return tmp_path / "store"


def test_a_study_comes_back_with_its_place_and_organs(root):
    study = a_study()
    write_study(root, study, SETTINGS)
    store = StudyStore(root)
    assert store.study_ids == ("a",)
    volume = store.read_volume("a")
    np.testing.assert_array_equal(volume.hu, study.hu)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.affine, AFFINE)
    np.testing.assert_array_equal(store.read_structures("a"), study.structures)
    assert store.facts("a")["file"] == "a.nii"
    assert store.settings == SETTINGS


@pytest.mark.parametrize("shape", [(2, 3, 1), (16, 16, 8), (17, 16, 9)])
def test_volumes_thinner_than_a_chunk_or_just_over_it(root, shape):
    study = a_study(shape=shape)
    write_study(root, study, SETTINGS)
    np.testing.assert_array_equal(StudyStore(root).read_box("a", (0, 0, 0), shape), study.hu)


def test_a_box_reads_only_the_chunks_that_it_touches(root, monkeypatch):
    write_study(root, a_study(), SETTINGS)
    reads = count_reads(monkeypatch)
    store = StudyStore(root)
    reads.clear()
    box = store.read_box("a", (17, 1, 9), (14, 14, 6))  # inside the chunk at (16, 0, 8)
    np.testing.assert_array_equal(box, a_study().hu[17:31, 1:15, 9:15])
    one = [size for key, size in reads if "c/" in key]
    assert len(one) == 2  # the list of chunks and one chunk
    whole = (study_folder(root, "a") / "hu/c/0/0/0").stat().st_size
    assert sum(one) < 0.1 * whole
    reads.clear()
    store.read_box("a", (15, 15, 7), (2, 2, 2))  # the corner where eight chunks meet
    assert len([size for key, size in reads if "c/" in key]) == 1 + 8


def count_reads(monkeypatch) -> list[tuple[str, int]]:
    """Every read of the store on disk from now on: what, and how many bytes."""
    reads, get = [], LocalStore.get

    async def counted(self, key, prototype=None, byte_range=None):
        found = await get(self, key, prototype, byte_range)
        if found is not None:
            reads.append((key, len(found)))
        return found

    monkeypatch.setattr(LocalStore, "get", counted)
    return reads


def test_patch_fractions_equal_average_pooling_of_the_mask(root):
    study = a_study()
    write_study(root, study, SETTINGS)
    lut = ORGAN_MAPS["asap9"].lut()
    found = StudyStore(root).patch_fractions("a", lut)
    organs = lut[study.structures]
    assert found.shape == (8, 7, 6, 6)
    for o, x, y, z in [(5, 1, 2, 1), (5, 2, 3, 2), (6, 2, 4, 3), (0, 0, 0, 0)]:
        patch = organs[x * 8 : x * 8 + 8, y * 8 : y * 8 + 8, z * 4 : z * 4 + 4]
        assert found[o, x, y, z] == pytest.approx((patch == o + 1).mean())
    assert found[5].max() == 1.0
    assert found[6].max() > 0


def test_patches_cut_short_by_the_volume_count_what_is_there(root):
    study = a_study(shape=(9, 8, 4))
    structures = np.full((9, 8, 4), HEART, np.uint8)
    write_study(root, PreparedStudy("b", study.hu, study.grid, structures), SETTINGS)
    np.testing.assert_array_equal(
        StudyStore(root).patch_fractions("b", ORGAN_MAPS["asap9"].lut())[5], np.ones((2, 1, 1))
    )


def test_the_box_of_organs_is_known_without_reading_a_voxel(root, monkeypatch):
    write_study(root, a_study(), SETTINGS)
    reads = count_reads(monkeypatch)
    store = StudyStore(root)
    assert store.structure_box("a", [HEART, AORTA]) == (slice(5, 22), slice(10, 33), slice(3, 15))
    assert store.structure_box("a", [BY_NAME["liver"].number]) is None
    assert not [key for key, _ in reads if "c/" in key]


def test_a_study_without_a_mask_says_so(root):
    write_study(root, a_study(with_structures=False), SETTINGS)
    store = StudyStore(root)
    assert not store.has_structures("a")
    with pytest.raises(StudyError, match="has no structures"):
        store.read_structures("a")
    with pytest.raises(StudyError, match="holds no study zz"):
        store.read_volume("zz")
    with pytest.raises(ConfigError, match="does not lie in"):
        store.read_box("a", (40, 0, 0), (11, 4, 4))


def test_a_mask_in_which_nothing_was_found_reads_as_background(root):
    study = a_study()
    write_study(root, PreparedStudy("a", study.hu, study.grid, np.zeros(SHAPE, np.uint8)), SETTINGS)
    store = StudyStore(root)
    assert not store.read_structures("a").any()
    assert not store.patch_fractions("a", ORGAN_MAPS["asap9"].lut()).any()


def test_damaged_and_missing_voxels_are_named(root):
    """Zarr reads an absent file as its fill value: a half-copied store would train on air."""
    write_study(root, a_study(), SETTINGS)
    file = study_folder(root, "a") / "hu/c/0/0/0"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match="Study a of the store is damaged"):
        StudyStore(root).read_volume("a")
    file.unlink()
    with pytest.raises(StudyError, match="lacks its hu"):
        StudyStore(root).read_volume("a")


def test_a_store_keeps_its_settings(root, tmp_path):
    make_store(root, SETTINGS)
    with pytest.raises(ConfigError, match="other settings"):
        make_store(root, StoreSettings(spacing_mm=(1.0, 1.0, 3.0)))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        make_store(tmp_path / "other", SETTINGS)
    with pytest.raises(ConfigError, match="No store at"):
        StudyStore(tmp_path / "other")


@pytest.mark.parametrize("wrong", [{"spacing_mm": (0, 1, 1)}, {"window_hu": (5, -5)}, {"patch": (64, 64, 32)}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        StoreSettings(**wrong)


def write_many(root: Path) -> None:
    for number in range(1000):
        write_study(root, a_study(f"s{number:04d}"), SETTINGS)


def test_a_kill_leaves_whole_studies_only(root):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=write_many, args=(root,))
    process.start()
    deadline = time.monotonic() + 60
    while len(list_studies(root)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = StudyStore(root)
    assert 3 <= len(store.study_ids) < 1000
    for study_id in store.study_ids:
        np.testing.assert_array_equal(store.read_volume(study_id).hu, a_study(study_id).hu)
        assert store.has_structures(study_id)
    clear_abandoned(root)
    assert not list((root / "studies").glob(f"{PART}*"))


def fill_disk(root: Path) -> None:
    """Write one study that is allowed and one that is not, as on a disk that runs full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    write_study(root, a_study("small", (9, 9, 9)), SETTINGS)
    try:
        write_study(root, a_study("large", (60, 60, 60)), SETTINGS)
    except StorageError as error:
        assert "Free some disk" in str(error)  # noqa: PT017  (in another process)
        os._exit(7)


def test_a_full_disk_is_named_and_leaves_the_store_valid(root):
    process = multiprocessing.get_context("spawn").Process(target=fill_disk, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert set(os.listdir(root / "studies")) == {"zarr.json", "small"}
    np.testing.assert_array_equal(StudyStore(root).read_volume("small").hu, a_study("small", (9, 9, 9)).hu)


def test_another_programs_zarr_reads_it(root):
    """The store is plain Zarr v3: nothing of this project is needed to open it."""
    write_study(root, a_study(), SETTINGS)
    array = zarr.open_group(root, mode="r")["studies/a/hu"]
    assert array.chunks == (16, 16, 8)
    assert array.shards == (64, 48, 24)
    np.testing.assert_array_equal(array[3:5, 4:6, 7], a_study().hu[3:5, 4:6, 7])
