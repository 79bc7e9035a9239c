import numpy as np
import pytest
from PIL import Image

from core.errors import ConfigError
from core.synthesis.patients import Patient
from core.synthesis.phantom import PhantomConfig, build_phantom
from trainers.contact_sheet import ATTRIBUTION, OUTLINE, SheetConfig, main
from trainers.patients import write_patient


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    phantom = build_phantom(PhantomConfig(shape=(56, 42, 52), spacing_mm=(6.0, 6.0, 6.0), lesions=(), noise_hu=5.0))
    root = tmp_path_factory.mktemp("sheet")
    patient = Patient("p", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid)
    write_patient(patient, root / "patients" / "p")
    return root


def test_a_sheet_shows_each_kind_without_and_with_its_outline(folder):
    config = SheetConfig(folder / "patients" / "p", folder / "one", 0, 6.0, ("mass", "pleural effusion"), 2, 120, 2)
    main(config)
    sheet = np.asarray(Image.open(folder / "one" / "data_engine_findings.png").convert("RGB")).astype(int)
    red = (sheet[..., 0] > 180) & (sheet[..., 1] < 120) & (sheet[..., 2] < 120)
    columns = np.flatnonzero(red.any(axis=0))
    assert OUTLINE[0] > 180
    assert sheet.shape[1] == 2 * (2 * 120 + 6)
    plain = [(0, 120), (246, 366)]
    assert all(not ((columns >= low) & (columns < high)).any() for low, high in plain)
    assert all(((columns >= low + 120) & (columns < high + 120)).any() for low, high in plain)
    assert (folder / "one" / "data_engine_scans.png").is_file()


def test_the_same_seed_draws_the_same_sheet(folder):
    files = []
    for name in ("two", "three"):
        main(SheetConfig(folder / "patients" / "p", folder / name, 3, 9.0, ("mass",), 1, 80, 1))
        files.append((folder / name / "data_engine_findings.png").read_bytes())
    assert files[0] == files[1]


def test_the_source_is_named_and_unknown_kinds_are_refused(folder):
    assert "CC BY 3.0" in ATTRIBUTION
    with pytest.raises(ConfigError, match="goblin"):
        SheetConfig(folder, kinds=("goblin",))
