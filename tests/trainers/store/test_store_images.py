from dataclasses import replace

import numpy as np
import pytest
from ct_tree import BLOCK, SHAPE, a_ct, block_mask, save_nifti
from torch.utils.data import DataLoader

from core.errors import ConfigError
from core.retrieval.table import ReportRow
from core.structures import BY_NAME
from trainers.crops import DataView
from trainers.folder import FolderImages
from trainers.preparation.study import StudyOptions
from trainers.prepare import PrepareConfig, prepare
from trainers.spread import SpreadConfig
from trainers.store.images import StoreImages
from trainers.store.layout import StoreSettings
from trainers.store.reading import StudyStore
from trainers.studies import open_images

AFFINE = np.array([[-0.8, 0, 0, 20], [0, -0.9, 0, 10], [0, 0, 2.5, -30], [0, 0, 0, 1]])  # LPS on disk
VIEW = DataView(spacing_mm=(1.5, 1.5, 3.0), crop=(16, 16, 8), mirror_chance=0.5)
HEART = BY_NAME["heart"].number


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with two studies, one of them thin, prepared into data/store."""
    root = tmp_path_factory.mktemp("data")
    for name, shape in (("a", SHAPE), ("b", (*SHAPE[:2], 20))):
        save_nifti(root / f"volumes/{name}.nii.gz", a_ct()[:, :, : shape[2]], AFFINE)
        save_nifti(root / f"masks/{name}.nii.gz", block_mask(HEART)[:, :, : shape[2]], AFFINE)
    for resample in ("smooth", "as_released"):
        options = StudyOptions(StoreSettings(resample=resample, chunk=(16, 16, 8)))
        told = prepare(
            PrepareConfig(
                root / "volumes", root / resample, root / "masks", study=options, spread=SpreadConfig(workers=0)
            )
        )
        assert told["done"] == 2
    return root


@pytest.mark.parametrize("resample", ["smooth", "as_released"])
@pytest.mark.parametrize("place", ["anywhere", "organs"])
def test_crops_equal_those_of_the_files_they_came_from(data, resample, place):
    view = replace(VIEW, resample=resample, place=place, organ_margin=(2, 2, 1))
    ours = StoreImages(StudyStore(data / resample), ["a.nii.gz", "b.nii.gz"], view)
    theirs = FolderImages(data, ["a.nii.gz", "b.nii.gz"], view, data / f"cache-{resample}")
    for seed in range(6):
        name = ours.study_ids[seed % 2]
        got, wanted = (source.read(name, np.random.default_rng(seed)) for source in (ours, theirs))
        assert got.study_id == name
        assert got.is_mirrored == wanted.is_mirrored
        np.testing.assert_array_equal(got.hu, wanted.hu)
        np.testing.assert_array_equal(got.structures, wanted.structures)
    assert (got.structures == HEART).any()


def test_a_store_needs_no_masks_where_none_are_asked_for(data):
    images = StoreImages(StudyStore(data / "smooth"), ["a"], VIEW, with_masks=False)
    assert images.read("a", np.random.default_rng(0)).structures is None


class Crops:
    """A training set of crops, for loaders with processes of their own."""

    def __init__(self, images: StoreImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images.read("a", np.random.default_rng(index)).hu.copy()


def test_forked_loaders_read_what_this_process_reads(data):
    """Zarr runs a thread of its own; a fork after its first use must not wait for it for ever."""
    crops = Crops(StoreImages(StudyStore(data / "smooth"), ["a"], VIEW))
    here = [crops[index] for index in range(len(crops))]
    loader = DataLoader(crops, batch_size=None, num_workers=2, timeout=60)  # type: ignore[arg-type]
    for mine, theirs in zip(here, loader, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"spacing_mm": (1.0, 1.0, 3.0)}, "spacing_mm"),
        ({"resample": "as_released"}, "resample"),
        ({"window_hu": (-1150.0, 350.0)}, "window_hu"),
    ],
)
def test_a_view_that_the_store_was_not_made_for_is_refused(data, change, named):
    with pytest.raises(ConfigError, match=named):
        StoreImages(StudyStore(data / "smooth"), ["a"], replace(VIEW, **change))


def test_a_store_that_was_clipped_early_is_refused_by_a_view_that_clips_late(data):
    store = StudyStore(data / "as_released")
    view = replace(VIEW, resample="as_released", window_hu=store.settings.window_hu)
    StoreImages(store, ["a"], view)
    with pytest.raises(ConfigError, match="clipped late"):
        StoreImages(store, ["a"], replace(view, clip_late=True))


def test_studies_that_are_not_there_are_named(data):
    with pytest.raises(ConfigError, match=r"1 of 2 studies are not in the store .*first: c"):
        StoreImages(StudyStore(data / "smooth"), ["a", "c.nii.gz"], VIEW)


def test_studies_without_a_mask_are_named(data, tmp_path):
    prepare(PrepareConfig(data / "volumes", tmp_path / "bare", spread=SpreadConfig(workers=0)))
    with pytest.raises(ConfigError, match="2 of 2 studies have no mask"):
        StoreImages(StudyStore(tmp_path / "bare"), ["a", "b"], VIEW)


def test_the_block_is_where_the_mask_says(data):
    store = StudyStore(data / "smooth")
    hu, structures = store.read_volume("a").hu, store.read_structures("a")
    assert hu[structures == HEART].mean() > 700
    assert (hu[structures == 0] > 600).sum() < 0.2 * (structures == HEART).sum()
    assert (structures == HEART).sum() == pytest.approx(
        np.prod([s.stop - s.start for s in BLOCK]) * 1.8 / 6.75, rel=0.2
    )


def test_training_takes_the_store_of_a_data_folder_where_there_is_one(data, tmp_path):
    rows = [ReportRow(f"{name}.nii.gz", "Heart is normal.", "") for name in "ab"]
    assert isinstance(open_images(data, rows, VIEW, tmp_path, with_masks=True), FolderImages)
    (tmp_path / "store").symlink_to(data / "smooth")
    images = open_images(tmp_path, rows, VIEW, tmp_path / "cache", with_masks=True)
    assert isinstance(images, StoreImages)
    assert images.read("a.nii.gz", np.random.default_rng(0)).hu.shape == (16, 16, 8)
