"""The command line as a shell meets it: exit codes, one JSON document, one line per mistake."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from asap_viewer.commands.line import COMMANDS, run_line
from asap_viewer.commands.streams import taken_streams

ROOT = Path(__file__).resolve().parents[2]
REPORT = "There is a 12 mm nodule in the left lower lobe. No pleural effusion."


@pytest.fixture
def ct(tmp_path) -> Path:
    """A small anisotropic LPS CT: soft tissue in air."""
    hu = np.full((40, 36, 12), -1000, np.int16)
    hu[8:32, 8:28] = 40
    path = tmp_path / "ct.nii.gz"
    affine = np.array([[-1.5, 0, 0, 60], [0, -1.5, 0, 50], [0, 0, 5, -30], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(hu, affine), path)
    return path


@pytest.fixture
def report(tmp_path) -> Path:
    path = tmp_path / "report.txt"
    path.write_text(REPORT, encoding="utf-8")
    return path


def answer_of(capfd, *arguments) -> dict:
    """The JSON document of a command that must succeed, with nothing on stderr."""
    code = run_line([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    return json.loads(out)


def complaint_of(capfd, *arguments) -> str:
    """The one line of a command that must fail, with nothing on stdout."""
    code = run_line([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


def shell(*arguments, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "asap_viewer", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


def test_info_speaks_of_the_file_as_stored(capfd, ct):
    found = answer_of(capfd, "info", ct)
    assert found["shape"] == [40, 36, 12]
    assert found["spacing_mm"] == [1.5, 1.5, 5.0]
    assert found["orientation"] == "LPS"
    assert (found["hu_min"], found["hu_max"]) == (-1000, 40)
    assert {"modality", "series_description", "warnings"} <= set(found)


def test_parse_gives_sentences_and_all_18_labels(capfd, report):
    found = answer_of(capfd, "parse", report)
    nodule = found["sentences"][0]["findings"][0]
    assert nodule == {
        "finding": "Lung nodule",
        "existence": "present",
        "organs": ["lung_lower_lobe_left"],
        "laterality": "left",
        "size_mm": 12.0,
    }
    assert [sentence["index"] for sentence in found["sentences"]] == [1, 2]
    assert len(found["labels18"]) == 18
    assert found["labels18"]["Lung nodule"] is True
    assert found["labels18"]["Pleural effusion"] is False


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_report_is_read_in_the_encodings_that_hospitals_export(capfd, tmp_path, encoding):
    path = tmp_path / "report.txt"
    path.write_bytes("Nodule of 8 mm – ground-glass.".encode(encoding))
    assert answer_of(capfd, "parse", path)["sentences"][0]["text"] == "Nodule of 8 mm – ground-glass."


def test_engines_says_what_is_missing_and_how_to_get_it(capfd):
    rows = answer_of(capfd, "engines")["engines"]
    assert {"bundled", "asap", "embedded", "totalsegmentator"} <= {row["name"] for row in rows}
    assert all(row["can_run"] or row["lacks"] for row in rows)
    assert next(row for row in rows if row["name"] == "embedded")["can_run"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["info"],
        ["info", "nowhere.nii.gz"],
        ["info", "REPORT"],
        ["parse", "nowhere.txt"],
        ["parse", "."],
        ["segment", "CT", "--out", "mask.txt"],
        ["segment", "CT", "--out", "CT"],
        ["segment", "CT", "--out", "mask.nii.gz", "--engine", "magic"],
        ["segment", "CT", "--out", "mask.nii.gz", "--dicom-seg", "seg.dcm"],
        ["ground", "CT", "--report", "REPORT", "--out", "REPORT"],
        ["ground", "CT", "--report", "CT", "--out", "heat"],
        ["ground", "CT", "--report", "REPORT", "--out", "heat", "--engine", "magic"],
        ["findings", "CT", "--engine", "magic"],
        ["findings", "CT", "--device", "abacus"],
        ["index", "build", "--reports", "REPORT", "--out", "index"],
        ["index", "search", "nowhere", "--text", "effusion"],
        ["index", "search", "."],
        ["index", "search", ".", "--text", "effusion", "-k", "0"],
        ["ask", "CT", ""],
        ["ask", "CT", "Where is the nodule?", "--engine", "magic"],
        ["ask", "CT", "Where is the nodule?", "--masks", "REPORT"],
        ["annotations", "export", "--db", "sqlite:///nowhere.sqlite", "--out", "annotations"],
        ["annotations", "export", "--db", "no url", "--out", "annotations"],
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing_behind(capfd, ct, report, monkeypatch, arguments):
    monkeypatch.chdir(ct.parent)
    before = sorted(path.name for path in ct.parent.iterdir())
    names = {"CT": ct.name, "REPORT": report.name}
    complaint = complaint_of(capfd, *[names.get(word, word) for word in arguments])
    assert len(complaint) > 20
    assert "Traceback" not in complaint
    assert sorted(path.name for path in ct.parent.iterdir() if not _is_empty_folder(path)) == before


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@pytest.mark.parametrize("command", ["ground", "segment"])
def test_a_folder_made_for_results_that_never_came_is_gone(capfd, ct, report, command):
    (ct.parent / "cut.nii.gz").write_bytes(ct.read_bytes()[:-50])
    out = ct.parent / "new" / "deeper"
    where = ("--report", report, "--out", out) if command == "ground" else ("--out", out / "m.nii.gz")
    complaint_of(capfd, command, ct.parent / "cut.nii.gz", *where)
    assert not (ct.parent / "new").exists()


def test_cuda_without_a_gpu_is_refused(capfd, ct):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    complaint = complaint_of(capfd, "segment", ct, "--out", ct.parent / "m.nii.gz", "--device", "cuda")
    assert "--device cpu" in complaint


def test_every_command_explains_itself(capfd):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            run_line([command, "--help"])
        assert ended.value.code == 0
        assert capfd.readouterr().out.startswith(f"usage: python -m asap_viewer {command}")


def test_only_the_answer_reaches_stdout(capfd):
    """Libraries print from C and from worker processes; neither may spoil the JSON."""
    with taken_streams() as streams:
        os.write(1, b"noise from C\n")
        subprocess.run(["echo", "noise from a worker"], check=True)
        streams.write_answer("{}\n")
    out, err = capfd.readouterr()
    assert out == "{}\n"
    assert err == "noise from C\nnoise from a worker\n"


def test_noise_is_dropped_when_the_person_made_a_mistake(capfd):
    with taken_streams() as streams:
        os.write(2, b"WARNING: something\n")
        streams.drop_logs()
        streams.write_error("one line")
    assert capfd.readouterr() == ("", "one line\n")


def test_progress_shows_on_request_only(capfd):
    for is_live, expected in ((False, ""), (True, " 50% half\n100% all\n")):
        with taken_streams(is_live) as streams:
            streams.progress(0.5, "half")
            streams.progress(1.0, "all")
        assert capfd.readouterr().err == expected


def test_every_step_is_shown_however_fast_they_follow(capfd):
    with taken_streams(True) as streams:
        for fraction, message in ((0.1, "slice 1 of 3"), (0.2, "slice 2 of 3"), (0.3, "organs"), (0.4, "atlas")):
            streams.progress(fraction, message)
    assert capfd.readouterr().err == " 10% slice 1 of 3\n 30% organs\n 40% atlas\n"


def test_reading_a_report_imports_nothing_heavy(report):
    code = (
        "import sys; from asap_viewer.commands.line import run_line; "
        f"assert run_line(['parse', {str(report)!r}]) == 0; "
        "heavy = {'torch', 'gradio', 'SimpleITK', 'transformers', 'skimage', 'faiss', 'highdicom'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_a_reader_that_goes_away_is_no_error(report):
    running = shell("parse", report)
    running.stdout.close()
    err = running.stderr.read()
    assert running.wait(60) == 141
    assert err == b""


def test_interrupting_stops_in_one_line_and_writes_nothing(tmp_path):
    sample = ROOT / "assets/sample/lidc-idri-0001/ct.nii.gz"
    out = tmp_path / "mask.nii.gz"
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin deaf to it
    running = shell("segment", sample, "--out", out, "--engine", "embedded", "--verbose")
    signal.signal(signal.SIGINT, heeded)
    for line in running.stderr:
        if b"Preparing" in line or b"Finding" in line:
            break
    running.send_signal(signal.SIGINT)
    rest = running.stderr.read().decode().splitlines()
    assert running.wait(60) == 130
    assert rest[-1] == "Stopped; nothing was written."
    assert not any("Traceback" in line for line in rest)
    assert list(tmp_path.iterdir()) == []
