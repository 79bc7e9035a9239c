import json

import pytest

from core.folder import replace_folder, require_replaceable


def write_product(target, names):
    with replace_folder(target, "m.json") as fresh:
        for name in names:
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_text(name)
        (fresh / "m.json").write_text(json.dumps({"files": names}))


def write_half(target):
    with replace_folder(target, "m.json") as fresh:
        (fresh / "half").write_text("x")
        raise ZeroDivisionError


def names_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_product_appears_whole_and_the_next_replaces_all_of_it(tmp_path):
    write_product(tmp_path / "deep" / "out", ["a", "sub/b"])
    assert names_below(tmp_path) == ["deep/out/a", "deep/out/m.json", "deep/out/sub/b"]
    write_product(tmp_path / "deep" / "out", ["c"])
    assert names_below(tmp_path) == ["deep/out/c", "deep/out/m.json"]
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o755


def test_a_failed_write_leaves_the_old_folder_and_no_debris(tmp_path):
    write_product(tmp_path / "out", ["a"])
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path / "out")
    assert names_below(tmp_path) == ["out/a", "out/m.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("manifest", ["{", "[]", '{"files": 3}', '{"files": ["a"]}'])
def test_files_that_the_manifest_does_not_name_are_never_lost(tmp_path, manifest):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m.json").write_text(manifest)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="thesis.txt"):
        write_product(tmp_path / "out", ["a"])
    assert names_below(tmp_path) == ["out/m.json", "out/thesis.txt"]


def test_an_empty_folder_may_be_used_and_a_file_may_not(tmp_path):
    (tmp_path / "empty").mkdir()
    write_product(tmp_path / "empty", ["a"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        require_replaceable(tmp_path / "file", "m.json")
