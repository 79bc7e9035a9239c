"""Where the super-resolved window lies: mapped between crop and volume, remembered, and cut from finer volumes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from entity_folder import AFFINE, SHAPE, box_of_study, write_entity_folder

from core.errors import ConfigError
from core.models.ecamp_config import ECAMPConfig, SuperResolutionConfig, ecamp_tiny
from core.preprocess import resample_smoothly
from core.volume import Grid
from trainers.crops import Crop, CropPlace, DataView, cut_crop
from trainers.fine_volumes import FineVolumes, reflect
from trainers.report_tokens import read_reports
from trainers.sharp_windows import SharpWindows, WindowMemory, WindowSizes, into_crop, into_volume

SIZES = WindowSizes((32, 32, 16), (8, 8, 4), (2, 2, 2), (4, 4, 4))


def a_config(**sr) -> ECAMPConfig:
    return replace(ecamp_tiny(50), sr=SuperResolutionConfig(**({"window": 2} | sr)))


def a_source(folder, config, fine=None) -> SharpWindows:
    return SharpWindows({row.study_id: row for row in read_reports(folder)}, config, folder, fine)


@pytest.fixture
def folder(tmp_path):
    return write_entity_folder(tmp_path, with_masks=True)


@pytest.mark.parametrize("flipped", [(False, False, False), (True, False, True), (True, True, True)])
@pytest.mark.parametrize("start", [(0, 0, 0), (5, -3, 11)])
def test_a_corner_survives_the_way_to_the_volume_and_back(flipped, start):
    place = CropPlace(start, flipped, (40, 40, 40))
    for corner in ((0, 0, 0), (2, 1, 0), (1, 2, 2)):
        voxel = into_volume(SIZES.middle_of(corner), place, SIZES.crop)
        assert SIZES.corner_around(into_crop(voxel, place, SIZES.crop)) == corner


def test_the_place_of_a_crop_says_which_voxels_it_shows():
    """Every voxel of a volume holds its own number; crops smaller and larger than it, mirrored and flipped."""
    volume = np.arange(20 * 12 * 10, dtype=np.int16).reshape(20, 12, 10)
    view = DataView(crop=(8, 16, 6), mirror_chance=0.5, flip_chance=0.5, smallest_crop=0.9)
    seen = set()
    for seed in range(40):
        crop = cut_crop("s", (volume, None), view, np.random.default_rng(seed))
        assert crop.place.volume == volume.shape
        seen.add(crop.place.flipped)
        for voxel in ((0, 5, 0), (7, 8, 5), (3, 6, 2)):
            x, y, z = into_volume(voxel, crop.place, (8, 16, 6))
            assert crop.hu[voxel] == volume[x, y, z]
            assert into_crop((x, y, z), crop.place, (8, 16, 6)) == voxel
    assert len(seen) == 8


def test_a_window_follows_its_finding_through_crops_and_mirrors(folder):
    """The box of study 0 lies at the left, back and bottom of the volume: at the right once mirrored."""
    source = a_source(folder, a_config())
    source.memory.learn({"s0": (8, 8, 4)})
    for flipped, start, corner in (
        ((False,) * 3, (0, 0, 0), (0, 0, 0)),
        ((True, False, False), (0, 0, 0), (2, 0, 0)),
        ((False,) * 3, (-16, 0, -8), (2, 0, 2)),
        ((False,) * 3, (24, 0, 0), (0, 0, 0)),  # left of the crop: pushed inside
    ):
        crop = Crop("s0", np.zeros(SHAPE, np.int16), None, flipped[0], CropPlace(start, flipped, SHAPE))
        assert source.make(crop, np.random.default_rng(0))["sr_corner"].tolist() == list(corner)
    other = Crop("s1", np.zeros(SHAPE, np.int16), None, False)
    assert source.make(other, np.random.default_rng(0))["sr_corner"].tolist() == [1, 1, 1]  # nothing known


def test_memory_moves_towards_what_is_found(tmp_path):
    memory = WindowMemory(momentum=0.75)
    memory.learn({"a": (8, 8, 8)})
    memory.learn({"a": (16, 8, 0), "b": (1, 2, 3)})
    assert memory.middles == {"a": (10, 8, 6), "b": (1, 2, 3)}
    memory.write(tmp_path / "w.csv")
    again = WindowMemory()
    again.read(tmp_path / "w.csv")
    assert again.middles == memory.middles
    (tmp_path / "w.csv").write_text("study_id,x,y,z\na,1,2,x\n")
    with pytest.raises(ConfigError, match="line 2.*whole voxel numbers"):
        again.read(tmp_path / "w.csv")


def test_windows_may_begin_with_a_file(folder):
    (folder / "sr_window.csv").write_text("study_id,x,y,z\ns0,30,30,14\n")
    crop = Crop("s0", np.zeros(SHAPE, np.int16), None, False, CropPlace((0, 0, 0), (False,) * 3, SHAPE))
    assert a_source(folder, a_config()).corner(crop) == (2, 2, 2)
    assert a_source(folder, a_config(window_from="center")).corner(crop) == (1, 1, 1)


def test_windows_on_organs_with_findings(folder):
    """The masks call each bright octant the aorta; only the report of study 7 finds something in it."""
    reports = (folder / "reports.csv").read_text().splitlines()
    reports[8] = "s7,The aorta has an aneurysm.,"
    reports[7] = "s6,The aorta is normal.,"
    (folder / "reports.csv").write_text("\n".join(reports) + "\n")
    source = a_source(folder, a_config(window_from="organ"))
    for number, corner in ((7, (2, 2, 2)), (6, (1, 1, 1))):
        structures = np.zeros(SHAPE, np.uint8)
        structures[box_of_study(number)] = 52
        crop = Crop(f"s{number}", np.zeros(SHAPE, np.int16), structures, False)
        assert source.corner(crop) == corner
    with pytest.raises(ConfigError, match="preset organ"):
        source.corner(Crop("s7", np.zeros(SHAPE, np.int16), None, False))


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_finer_targets_show_what_the_crop_shows(folder, mirror):
    """Averaged over 2x2x2 voxels they are the crop again, also where a padded crop is mirrored at its ends."""
    view = DataView(crop=(40, 24, 16), mirror_chance=mirror, offset_chance=0.0)
    fine = FineVolumes(folder, ["s5"], view, (2, 2, 2), folder / "fine")
    whole = fine.images.prepared("s5")[0]
    coarse = whole.reshape(32, 2, 32, 2, 16, 2).mean(axis=(1, 3, 5)).round().astype(np.int16)
    for seed in range(4):
        crop = cut_crop("s5", (coarse, None), view, np.random.default_rng(seed))
        start, size = (8, 4, 2), (16, 16, 8)
        target = fine.cut(crop, start, size)
        assert target.shape == (1, 32, 32, 16)
        back = torch.nn.functional.avg_pool3d(target[None], 2)[0, 0]
        shown = (torch.from_numpy(crop.hu[8:24, 4:20, 2:10].astype(np.float32)) + 1000) / 1000 - 1
        inside = np.abs(back - shown) < 2e-3
        assert inside.float().mean() > 0.97  # but at the mirror's seam


def test_reflection_is_numpys():
    for count in (1, 2, 5):
        expected = np.pad(np.arange(count), (7, 9), mode="reflect") if count > 1 else np.zeros(17, int)
        assert reflect(np.arange(-7, count + 9), count).tolist() == expected.tolist()


def test_both_spacings_of_a_ct_have_the_same_middle():
    """What `FineVolumes` relies on: 33 voxels of 1.5 mm and 66 of 0.75 mm cover the same millimetres."""
    grid = Grid((33, 32, 16), AFFINE)
    hu = np.zeros(grid.shape, np.float32)
    coarse, fine = (resample_smoothly(hu, grid, (1.5 / s, 1.5 / s, 3.0 / s))[1] for s in (1, 2))
    np.testing.assert_allclose(coarse.centre_mm, fine.centre_mm, atol=1e-9)
    assert tuple(2 * n for n in coarse.shape) == fine.shape
