import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ct_tree import a_ct, block_mask, save_nifti
from dicom_series import axes_affine

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError, EngineError
from core.grounding.registry import load_engine
from core.structures import BY_NAME
from trainers.embed import EmbedConfig, embed
from trainers.features import FeatureFolder, hash_files
from trainers.outcomes import FAILURES
from trainers.preparation.study import StudyOptions
from trainers.prepare import PrepareConfig, prepare
from trainers.spread import SpreadConfig
from trainers.store.layout import StoreSettings
from trainers.store.reading import StudyStore

HERE = SpreadConfig(workers=0)
LUNG = BY_NAME["lung_upper_lobe_left"].number


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two studies with a mask."""
    root = tmp_path_factory.mktemp("embedding")
    for number in (1, 2):
        save_nifti(root / f"data/s{number}.nii.gz", a_ct() + np.int16(number), axes_affine("LPS"))
        save_nifti(root / f"masks/s{number}.nii.gz", block_mask(LUNG), axes_affine("LPS"))
    prepare(PrepareConfig(root / "data", root / "store", root / "masks", spread=HERE))
    return root / "store"


@pytest.fixture
def config(store, tiny_assets, tmp_path):
    return EmbedConfig(store, tmp_path / "features", assets=tiny_assets, device="cpu", spread=HERE)


def test_patches_are_those_of_the_engine(config, store, tiny_assets, tmp_path):
    told = embed(config)
    assert (told["found"], told["done"], told["failed"]) == (2, 2, 0)
    folder = FeatureFolder(config.out)
    assert folder.study_ids == ("s1", "s2")
    opened = StudyStore(store)
    masks = OrganMasks(opened.read_structures("s2"), "store")
    engine = load_engine("bundled", tiny_assets, tmp_path / "models", "cpu")
    wanted = engine.embed_volume(opened.read_volume("s2"), masks)
    got = folder.read("s2")
    assert got.dtype == np.float16
    np.testing.assert_allclose(got[wanted.covered], wanted.vectors[wanted.covered], atol=1e-3)
    assert not got[~wanted.covered].any()
    assert not np.array_equal(got, folder.read("s1"))


def test_the_manifest_says_what_made_them(config, tiny_assets):
    embed(config)
    manifest = json.loads((config.out / "manifest.json").read_text())
    assert manifest["engine"] == "bundled"
    assert manifest["weights_sha256"] == hash_files(tiny_assets / "models/bundled")
    assert manifest["store"]["spacing_mm"] == [1.5, 1.5, 3.0]
    assert manifest["uses_masks"] is True


def test_weights_that_change_change_their_hash(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"one")
    before = hash_files(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"two")
    assert hash_files(tmp_path) != before


def test_a_run_continues_and_does_nothing_twice(config):
    embed(config)
    kept = config.out / "s1.npy"
    before, whole = kept.stat().st_mtime_ns, (config.out / "s2.npy").read_bytes()
    (config.out / "s2.npy").unlink()
    (config.out / ".s2.npy.1.part").write_bytes(whole[:100])  # what a kill leaves
    assert FeatureFolder(config.out).study_ids == ("s1",)
    told = embed(config)
    assert (told["finished_before"], told["done"]) == (1, 1)
    assert kept.stat().st_mtime_ns == before
    assert (config.out / "s2.npy").read_bytes() == whole


def test_features_of_another_kind_are_not_mixed(config):
    embed(config)
    with pytest.raises(ConfigError, match="another kind"):
        embed(replace(config, kind="study"))
    embed(replace(config, kind="study", out=config.out.with_name("vectors")))
    vector = FeatureFolder(config.out.with_name("vectors")).read("s1")
    assert vector.ndim == 1
    assert np.linalg.norm(vector.astype(float)) == pytest.approx(1.0, abs=1e-2)


def test_a_damaged_study_is_listed(config, store, tmp_path):
    shutil.copytree(store, tmp_path / "copy")
    (tmp_path / "copy/studies/s1/hu/c/0/0/0").unlink()
    told = embed(replace(config, store=tmp_path / "copy"))
    assert (told["done"], told["failed"]) == (1, 1)
    assert "lacks its hu" in json.loads((config.out / FAILURES).read_text())["reason"]


def test_a_store_that_was_clipped_too_far_and_unknown_engines_are_refused(config, tmp_path):
    save_nifti(tmp_path / "data/s.nii.gz", a_ct(), axes_affine("LPS"))
    options = StudyOptions(StoreSettings(window_hu=(-200.0, 200.0)))
    prepare(PrepareConfig(tmp_path / "data", tmp_path / "narrow", study=options, spread=HERE))
    with pytest.raises(ConfigError, match="wider --window-hu"):
        embed(replace(config, store=tmp_path / "narrow"))
    with pytest.raises(EngineError, match="no engine 'nobody'"):
        embed(replace(config, grounder="nobody"))


def test_two_processes_write_what_one_does(config):
    embed(config)
    command = [sys.executable, "-m", "trainers.embed", "--store", str(config.store), "--assets", str(config.assets)]
    command += ["--out", str(config.out.with_name("two")), "--workers", "2", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 2
    one, two = FeatureFolder(config.out), FeatureFolder(config.out.with_name("two"))
    for study_id in one.study_ids:
        np.testing.assert_allclose(one.read(study_id), two.read(study_id), atol=2e-3)
