import numpy as np
import pytest

from core.errors import ConfigError
from trainers.preparation.metadata import read_metadata

HEAD = "VolumeName,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing,ImageOrientationPatient,ImagePositionPatient\n"
AXIAL = '"[1, 0, 0, 0, 1, 0]"'


def table(tmp_path, text):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    return read_metadata(path)


def test_a_row_becomes_an_affine_in_ras(tmp_path):
    rows = table(tmp_path, HEAD + f'train_1_a_1.nii.gz,-8192,1,"[0.75, 0.75]",1.5,{AXIAL},"[-180.5, -200.0, 30.0]"\n')
    row = rows["train_1_a_1"]
    assert (row.slope, row.intercept) == (1.0, -8192.0)
    # DICOM counts to the patient's left and back, so both axes and their origin change sign
    expected = [[-0.75, 0, 0, 180.5], [0, -0.75, 0, 200.0], [0, 0, 1.5, 30.0], [0, 0, 0, 1]]
    np.testing.assert_allclose(row.affine(), expected)


def test_slices_follow_the_cross_product_of_rows_and_columns(tmp_path):
    feet_first = '"[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]"'
    row = table(tmp_path, HEAD + f"a,0,1,0.8,2,{feet_first},\n")["a"]
    np.testing.assert_allclose(row.affine()[:3, :3], np.diag([0.8, -0.8, -2.0]), rtol=1e-6)


@pytest.mark.parametrize(
    "cell", ["0.7", "[0.7, 0.7]", '"[0.7, 0.7]"', "(np.float64(0.7)  np.float64(0.7))", "[7e-1 7E-1]", "0.7\\0.7"]
)
def test_the_ways_in_which_tables_write_numbers(tmp_path, cell):
    cell = cell if "," not in cell or cell.startswith('"') else f'"{cell}"'
    row = table(tmp_path, HEAD + f"a,0,1,{cell},2.5,{AXIAL},\n")["a"]
    assert row.spacing_mm == (0.7, 0.7, 2.5)


def test_columns_of_other_names_and_order_and_a_byte_order_mark(tmp_path):
    text = "\ufeffpixel spacing;x,z_spacing,Volume Name\n"
    text = text.replace(";x", "") + '"[0.9, 0.6]",3,dir/b.nii.gz\n'
    row = table(tmp_path, text)["b"]
    assert row.spacing_mm == (0.6, 0.9, 3.0)  # DICOM's pixel spacing names the distance between rows first
    assert row.slope is None
    np.testing.assert_allclose(np.linalg.norm(row.affine()[:3, :3], axis=0), (0.6, 0.9, 3.0), rtol=1e-6)


@pytest.mark.parametrize("spacing", ["nan", "", "0", "[-0.7, 0.7]"])
def test_a_row_without_a_usable_size_gives_no_affine(tmp_path, spacing):
    cell = f'"{spacing}"'
    assert table(tmp_path, HEAD + f"a,0,1,{cell},2.5,{AXIAL},\n")["a"].affine() is None


def test_spacing_has_the_precision_of_a_nifti_header(tmp_path):
    """0.7 x 45 / 1.5 is 21, and 20 in the published files, for a header holds 0.69999999 (fixtures, section 9)."""
    row = table(tmp_path, HEAD + f"a,0,1,0.7,1,{AXIAL},\n")["a"]
    assert int(45 * abs(row.affine()[0, 0]) / 1.5) == 20


def test_a_table_without_the_columns_it_needs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"lacks the columns xyspacing, zspacing; it has VolumeName, Sex"):
        table(tmp_path, "VolumeName,Sex\na,F\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_metadata(tmp_path / "absent.csv")
