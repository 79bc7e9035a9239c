import json
import sqlite3

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from dicom_series import axes_affine, ct_slices, phantom_hu, write_slices

from core.anatomy.masks import OrganMasks
from core.annotation.export import OpenCase, export_annotations, export_database
from core.annotation.records import Evidence, SentenceRef
from core.annotation.regions import BoxRegion, MaskRegion, paint_region, rasterise, span_box
from core.annotation.store import AnnotationStore
from core.errors import AnnotationError
from core.reading.study import open_study
from core.structures import BY_NAME
from core.volume import Grid, Volume

SHAPE, SPACING_MM = (20, 24, 16), (1.5, 2.0, 4.0)
LANDMARK = (13, 5, 11)
SENTENCE = (2, "Nodule in the left lower lobe.")


def affine_for(axes):
    """An anisotropic file grid in any orientation; "oblique" is LPS turned by 20 degrees about two axes."""
    codes = nib.orientations.axcodes2ornt("LPS" if axes == "oblique" else axes)
    affine = nib.orientations.inv_ornt_aff(codes, SHAPE) @ np.diag([*SPACING_MM, 1.0])
    affine[:3, :3] = nib.orientations.inv_ornt_aff(codes, SHAPE)[:3, :3] @ np.diag(SPACING_MM)
    if axes == "oblique":
        c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = [-31.0, 12.5, 140.0]
    return affine


def open_volume(axes):
    rng = np.random.default_rng(0)
    return Volume.from_source(rng.integers(-1000, 400, SHAPE).astype(np.int16), affine_for(axes))


@pytest.fixture
def store(tmp_path):
    opened = AnnotationStore(f"sqlite:///{tmp_path}/a.sqlite")
    yield opened
    opened.close()


def read_mm(path):
    """Shape, and the patient mm of the voxels above zero."""
    image = nib.load(path)
    found = np.argwhere(np.asarray(image.dataobj) > 0)
    return image.shape, nib.affines.apply_affine(image.affine, found)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "oblique"])
def test_painted_regions_heat_and_organs_come_back_at_the_same_millimetres(store, tmp_path, axes):
    volume = open_volume(axes)
    source = np.zeros(SHAPE, np.uint8)
    source[LANDMARK] = 1
    place_mm = affine_for(axes)[:3] @ [*LANDMARK, 1.0]
    painted = volume.from_source_array(source)
    organs = OrganMasks(painted * np.uint8(BY_NAME["heart"].number), "embedded")
    store.record(volume.content_hash, SENTENCE, "accept", evidence=Evidence("e", "v", tuple(place_mm), 0.5, 0.1, 0.8))
    store.add_region(volume.content_hash, SENTENCE, paint_region(painted, volume), "reader")
    case = OpenCase(volume, {SentenceRef(*SENTENCE): painted.astype(np.float32) * 0.5}, organs)
    export_annotations(store, tmp_path / "out", open_cases={volume.content_hash: case})
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    (entry,) = document["cases"]
    names = [entry["regions"][0]["file"], entry["annotations"][0]["heat_map"], entry["organs"]["file"]]
    assert sorted(names) == sorted(document["files"])
    for name in names:
        shape, found_mm = read_mm(tmp_path / "out" / name)
        assert shape == SHAPE
        np.testing.assert_allclose(found_mm, [place_mm], atol=1e-3)
        np.testing.assert_allclose(nib.load(tmp_path / "out" / name).affine, affine_for(axes), atol=1e-4)
    np.testing.assert_allclose(entry["regions"][0]["centre_ras_mm"], place_mm, atol=1e-3)
    assert entry["regions"][0]["volume_ml"] == pytest.approx(1.5 * 2.0 * 4.0 / 1000)
    np.testing.assert_allclose(entry["annotations"][0]["evidence"]["peak_ras_mm"], place_mm)
    assert entry["organs"]["labels"] == {str(BY_NAME["heart"].number): "heart"}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "oblique"])
def test_a_box_takes_exactly_the_voxels_whose_centre_is_inside(axes):
    volume = open_volume(axes)
    centre = volume.source.to_mm(LANDMARK)
    box = span_box(centre + [7.0, -5.0, 9.0], centre - [6.0, -8.0, 3.0], volume)
    every_mm = volume.source.to_mm(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))
    low, high = centre - [6.0, 5.0, 3.0], centre + [7.0, 8.0, 9.0]
    expected = ((every_mm >= low) & (every_mm <= high)).all(axis=-1)
    np.testing.assert_allclose([box.low_mm, box.high_mm], [low, high])
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(rasterise(box), expected)


def test_a_box_around_everything_is_the_whole_scan():
    volume = open_volume("PIR")
    assert rasterise(span_box([-1e4] * 3, [1e4] * 3, volume)).all()


def test_regions_survive_a_restart_and_can_be_removed_and_brought_back(store, tmp_path):
    volume = open_volume("LPS")
    mask = np.zeros(volume.shape, bool)
    mask[3:6, 4:9, 2] = True
    first = store.add_region(volume.content_hash, SENTENCE, paint_region(mask, volume), "a")
    box = span_box(volume.grid.to_mm([2, 2, 2]), volume.grid.to_mm([6, 6, 6]), volume)
    store.add_region(volume.content_hash, SENTENCE, box, "a")
    again = AnnotationStore(f"sqlite:///{tmp_path}/a.sqlite")
    kept_mask, kept_box = again.regions(volume.content_hash)
    np.testing.assert_array_equal(volume.from_source_array(rasterise(kept_mask.shape)), mask)
    assert (kept_box.shape.low_mm, kept_box.shape.high_mm) == (box.low_mm, box.high_mm)
    again.remove_region(first.number, "a")
    assert len(again.regions(volume.content_hash)) == 1
    assert again.undo(volume.content_hash, "a").action == "remove region"
    assert len(again.regions(volume.content_hash)) == 2
    assert again.undo(volume.content_hash, "a").action == "add region"
    assert [region.number for region in again.regions(volume.content_hash)] == [first.number]
    with pytest.raises(AnnotationError, match="no region 99"):
        again.remove_region(99)
    again.close()


def test_regions_that_make_no_sense_are_refused(store):
    volume = open_volume("RAS")
    grid = volume.source
    for region, match in (
        (MaskRegion(np.zeros(SHAPE, bool), grid), "no voxel"),
        (MaskRegion(np.ones((2, 2, 2), bool), grid), "not on the CT's grid"),
        (span_box([900.0] * 3, [950.0] * 3, volume), "no voxel"),
        (BoxRegion((0.0, 0.0, float("nan")), (1.0, 1.0, 1.0), grid), "not a number"),
        (MaskRegion(np.zeros((0, 0, 0), bool), Grid((2000, 2000, 2000), np.eye(4))), "too large"),
    ):
        with pytest.raises(AnnotationError, match=match):
            store.add_region(volume.content_hash, SENTENCE, region)
    assert store.cases() == ()


def test_a_damaged_mask_is_explained(store, tmp_path):
    volume = open_volume("RAS")
    store.add_region(volume.content_hash, SENTENCE, paint_region(np.ones(volume.shape, bool), volume))
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute("UPDATE region SET mask = substr(mask, 1, 40)")
    connection.close()
    with pytest.raises(AnnotationError, match="damaged"):
        store.regions(volume.content_hash)


def test_the_whole_database_is_exported_from_its_url_alone(store, tmp_path):
    volumes = [open_volume("RAS"), open_volume("LPS")]
    for volume in volumes:
        store.describe_case(volume.content_hash, "Fall Ü", volume.source)
        store.record(volume.content_hash, SENTENCE, "reject", "Größe <b>unklar</b>\n", "Ü")
        store.add_region(volume.content_hash, SENTENCE, paint_region(np.ones(volume.shape, bool), volume), "../Ü")
    summary = export_database(f"sqlite:///{tmp_path}/a.sqlite", tmp_path / "out")
    assert (summary.cases, summary.annotations, summary.regions) == (2, 2, 2)
    document = json.loads((tmp_path / "out" / "annotations.json").read_text(encoding="utf-8"))
    assert {case["content_hash"] for case in document["cases"]} == {volume.content_hash for volume in volumes}
    for case in document["cases"]:
        assert case["annotations"][0]["note"] == "Größe <b>unklar</b>\n"
        assert case["grid"]["shape"] == list(SHAPE)
        assert [change["action"] for change in case["history"]] == ["record", "add region"]
    on_disk = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert on_disk == set(summary.files)
    assert json.loads(json.dumps(summary._asdict()))["regions"] == 2


def test_one_case_is_exported_alone_and_an_unknown_one_refused(store, tmp_path):
    volume = open_volume("RAS")
    store.record(volume.content_hash, SENTENCE, "accept")
    store.record("cd" * 20, SENTENCE, "accept")
    assert export_annotations(store, tmp_path / "one", volume.content_hash).cases == 1
    with pytest.raises(AnnotationError, match="No annotation"):
        export_annotations(store, tmp_path / "two", "ef" * 20)
    assert not (tmp_path / "two").exists()


def test_exporting_again_replaces_and_a_failure_leaves_nothing_half_written(store, tmp_path):
    volume = open_volume("RAS")
    out = tmp_path / "out"
    store.record(volume.content_hash, SENTENCE, "accept")
    export_annotations(store, out)
    before = (out / "annotations.json").read_text()
    with pytest.raises(AnnotationError, match="open CT is"):
        export_annotations(store, out, open_cases={volume.content_hash: OpenCase(open_volume("LPS"))})
    assert (out / "annotations.json").read_text() == before
    store.add_region(volume.content_hash, SENTENCE, paint_region(np.ones(volume.shape, bool), volume))
    export_annotations(store, out)
    store.undo(volume.content_hash)
    export_annotations(store, out)
    assert [path.name for path in out.iterdir()] == ["annotations.json"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == "") == ["out"]


def test_files_of_somebody_else_are_never_replaced(store, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(AnnotationError, match="thesis.txt"):
        export_annotations(store, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(AnnotationError, match="is a file"):
        export_annotations(store, tmp_path / "file")


def test_exporting_from_a_wrong_url_makes_nothing(tmp_path):
    for url in ("nonsense", f"sqlite:///{tmp_path}/absent.sqlite"):
        with pytest.raises(AnnotationError):
            export_database(url, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_organs_of_a_dicom_ct_are_exported_as_dicom_seg_at_the_same_millimetres(store, tmp_path):
    study = open_study(write_slices(tmp_path / "series", ct_slices(phantom_hu(), axes_affine("LPS"))))
    volume = study.volume
    labels = np.zeros(volume.shape, np.uint8)
    labels[3:5, 4:9, 2] = BY_NAME["heart"].number
    store.record(volume.content_hash, SENTENCE, "accept")
    case = OpenCase(volume, masks=OrganMasks(labels, "embedded"), dicom_headers=study.dicom_headers)
    export_annotations(store, tmp_path / "out", open_cases={volume.content_hash: case})
    organs = json.loads((tmp_path / "out" / "annotations.json").read_text())["cases"][0]["organs"]
    segmentation = hd.seg.segread(tmp_path / "out" / organs["dicom_seg"])
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["heart"]
    marked = segmentation.get_volume(combine_segments=True)
    lps_mm = nib.affines.apply_affine(marked.affine, np.argwhere(marked.array))
    found_mm = lps_mm * [-1, -1, 1]
    np.testing.assert_allclose(
        sorted(found_mm.tolist()), sorted(volume.grid.to_mm(np.argwhere(labels)).tolist()), atol=1e-3
    )


def test_a_heat_map_belongs_to_the_sentences_text_not_to_its_number(store, tmp_path):
    volume = open_volume("RAS")
    heat = np.full(volume.shape, 0.5, np.float32)
    store.record(volume.content_hash, (1, "Nodule in the left lower lobe."), "accept")
    store.record(volume.content_hash, (2, "The heart is normal."), "accept")
    heats = {SentenceRef(1, "The heart is normal."): heat, SentenceRef(2, "A new sentence."): heat}
    export_annotations(store, tmp_path / "out", open_cases={volume.content_hash: OpenCase(volume, heats)})
    (case,) = json.loads((tmp_path / "out" / "annotations.json").read_text())["cases"]
    found = {entry["sentence"]["text"]: entry["heat_map"] for entry in case["annotations"]}
    assert found["Nodule in the left lower lobe."] is None
    assert found["The heart is normal."].endswith("/heat_01.nii.gz")
