import pytest

from core.errors import IndexFileError
from core.retrieval.table import TableLimits, known_label, parse_label_filters, read_table


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "reports.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_reads_a_table_with_bom_quotes_newlines_and_metadata(tmp_path):
    text = (
        '\ufeffstudy_id,findings,impression,volume,site\r\ns1,"Heart, ""normal"".\nLungs clear.",None.,s1.nii.gz,A\r\n'
    )
    table = read_table(write(tmp_path, text))
    (row,) = table.rows
    assert row.study_id == "s1"
    assert row.text == 'Heart, "normal".\nLungs clear.\nNone.'
    assert (row.volume, row.extra) == ("s1.nii.gz", {"site": "A"})
    assert table.metadata_columns == ("site",)
    assert table.skipped == ()


def test_lists_rows_that_cannot_be_used_with_their_lines(tmp_path):
    text = 'study_id,findings\n,No id.\na,"One.\nTwo."\na,Again.\nb,  \nc,x,y,z\n\nd,Fine.\n'
    table = read_table(write(tmp_path, text))
    assert [row.study_id for row in table.rows] == ["a", "d"]
    reasons = {skipped.line: skipped.reason for skipped in table.skipped}
    assert sorted(reasons) == [2, 5, 6, 7]
    assert "no study_id" in reasons[2]
    assert "line 3" in reasons[5]
    assert "empty" in reasons[6]
    assert "4 cells" in reasons[7]


def test_reads_label_columns_in_any_case_and_leaves_blanks_unknown(tmp_path):
    text = "study_id,findings,pleural EFFUSION,Emphysema,Cardiomegaly\na,Text.,1,0.0,\nb,Text.,maybe,,\n"
    table = read_table(write(tmp_path, text))
    assert table.rows[0].labels == {"Pleural effusion": True, "Emphysema": False}
    assert "maybe" in table.skipped[0].reason
    assert table.metadata_columns == ()


def test_understands_the_column_names_of_public_report_tables(tmp_path):
    table = read_table(write(tmp_path, "VolumeName,Findings_EN,Impressions_EN\nv1,Clear.,Normal.\n"))
    assert (table.rows[0].study_id, table.rows[0].impression) == ("v1", "Normal.")


@pytest.mark.parametrize(
    ("text", "encoding", "match"),
    [
        ("", "utf-8", "found nothing"),
        ("id;text\n1;x\n", "utf-8", "no column study_id and findings"),
        ("study_id,findings,findings\n", "utf-8", "occurs twice"),
        ("study_id,findings\n1,Größe\n", "latin-1", "0xf6 in line 2"),
        ("study_id,findings\n1,x\n", "utf-16", "not UTF-8"),
        ('study_id,findings\n1,"never closed\n', "utf-8", "near line 2"),
        ('study_id,findings\n1,"closed" early"\n', "utf-8", "near line 2"),
    ],
)
def test_refuses_files_that_are_not_such_a_table(tmp_path, text, encoding, match):
    with pytest.raises(IndexFileError, match=match):
        read_table(write(tmp_path, text, encoding))


def test_refuses_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(IndexFileError, match="Cannot read"):
            read_table(path)


def test_keeps_within_limits(tmp_path):
    path = write(tmp_path, "study_id,findings\na,1234567890\nb,ok\nc,ok\n")
    assert "at most 5" in read_table(path, TableLimits(report_characters=5)).skipped[0].reason
    with pytest.raises(IndexFileError, match="more than 1 reports"):
        read_table(path, TableLimits(rows=1))
    with pytest.raises(IndexFileError, match="Split"):
        read_table(path, TableLimits(file_bytes=10))


def test_filters_are_parsed_and_misspellings_are_answered():
    assert parse_label_filters(["pleural effusion=1", "Emphysema = no"]) == {
        "Pleural effusion": True,
        "Emphysema": False,
    }
    with pytest.raises(IndexFileError, match='did you mean "Pleural effusion"'):
        known_label("plural effusion")
    for setting in ("Emphysema", "Emphysema=2", "Emphysema=-1"):
        with pytest.raises(IndexFileError, match="expected LABEL=1 or LABEL=0"):
            parse_label_filters([setting])
