import json

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.anatomy.organ_net import CLASSES, OrganNet, load_organ_net, save_organ_net
from core.errors import ConfigError, EngineError
from core.structures import BY_NAME
from trainers.organ_net.labelled import LabelledScan
from trainers.organ_net.training import (
    OrganTraining,
    class_weights,
    learning_rate,
    segmentation_loss,
    thin_out,
    train_organ_net,
)
from trainers.organ_net.warping import WarpConfig

TINY = WarpConfig(tile=(32, 32, 32))


@pytest.fixture
def files(tmp_path):
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[10:20, 10:30, 10:30] = BY_NAME["liver"].number
    hu = np.where(labels > 0, 60, -100).astype(np.int16)
    for name, values in (("ct", hu), ("organs", labels)):
        nib.save(nib.nifti1.Nifti1Image(values, np.diag([3.0, 3.0, 3.0, 1.0])), tmp_path / f"{name}.nii.gz")
    return {"ct": (tmp_path / "ct.nii.gz",), "organs": (tmp_path / "organs.nii.gz",)}


def test_a_resumed_run_ends_with_the_same_weights(files, tmp_path):
    whole = OrganTraining(**files, out=tmp_path / "whole", steps=3, checkpoint_every=1, warp=TINY)
    wanted = load_file(train_organ_net(whole))

    class KilledError(Exception):
        pass

    import trainers.organ_net.training as training

    cut = OrganTraining(**files, out=tmp_path / "cut", steps=3, checkpoint_every=1, warp=TINY)
    take_step = training._take_step

    def take_two(config, data, net, optimizer, step):
        if step == 2 and not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KilledError
        return take_step(config, data, net, optimizer, step)

    training._take_step = take_two
    try:
        with pytest.raises(KilledError):
            train_organ_net(cut)
        found = load_file(train_organ_net(cut))
    finally:
        training._take_step = take_step
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2]


def test_a_checkpoint_of_other_settings_is_refused(files, tmp_path):
    train_organ_net(OrganTraining(**files, out=tmp_path / "run", steps=1, warp=TINY))
    with pytest.raises(ConfigError, match="other settings"):
        train_organ_net(OrganTraining(**files, out=tmp_path / "run", steps=1, seed=1, warp=TINY))


def test_the_loss_falls_with_the_truth_and_leaves_unknown_voxels_out():
    classes = torch.randint(0, 3, (6, 6, 6), dtype=torch.uint8)
    logits = torch.nn.functional.one_hot(classes.long(), 3).permute(3, 0, 1, 2) * 20.0
    loss, dice = segmentation_loss(logits, classes)
    assert loss < 0.1
    assert (dice > 0.9).all()
    wrong = logits.roll(1, dims=0)
    assert segmentation_loss(wrong, classes)[0] > 5
    unknown = classes.clone()
    unknown[3:] = 255
    half = wrong.clone()
    half[:, :3] = logits[:, :3]
    assert segmentation_loss(half, unknown)[0] < 0.1


def test_a_class_out_of_view_does_not_count():
    classes = torch.zeros((4, 4, 4), dtype=torch.uint8)
    _, dice = segmentation_loss(torch.zeros(3, 4, 4, 4), classes)
    assert torch.isnan(dice[1:]).all()


def test_logits_and_classes_are_thinned_alike():
    places = torch.arange(4 * 6 * 2).reshape(4, 6, 2)
    both = [thin_out(values, np.random.default_rng(7)) for values in (places, places[None].float())]
    assert torch.equal(both[0].float(), both[1][0])
    assert both[0].numel() == places.numel() // 4


def test_the_rate_warms_up_and_ends_at_zero(files, tmp_path):
    config = OrganTraining(**files, out=tmp_path, steps=400)
    rates = [learning_rate(step, config) for step in range(400)]
    assert rates.index(max(rates)) in (99, 100)
    assert rates[-1] < 1e-6


def test_weights_survive_the_file_in_half_precision(tmp_path):
    net = OrganNet().eval()
    save_organ_net(net.state_dict(), tmp_path / "net.safetensors")
    windows = torch.rand(1, 2, 32, 32, 32) * 2 - 1
    with torch.inference_mode():
        wanted, found = net(windows), load_organ_net(tmp_path / "net.safetensors")(windows)
    assert wanted.shape == (1, len(CLASSES), 32, 32, 32)
    assert (wanted - found).abs().max() < 0.05


def test_a_file_that_is_no_net_is_refused(tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"no weights")
    with pytest.raises(EngineError, match="cannot be read as the organ net"):
        load_organ_net(tmp_path / "net.safetensors")
    from safetensors.torch import save_file

    save_file({"head.bias": torch.zeros(3)}, tmp_path / "other.safetensors", {"classes": "rest liver"})
    with pytest.raises(EngineError, match="names other organs"):
        load_organ_net(tmp_path / "other.safetensors")


def test_unequal_lists_are_refused(files, tmp_path):
    with pytest.raises(ConfigError, match="expected as many"):
        OrganTraining(ct=files["ct"], organs=(), out=tmp_path)


def test_rare_classes_weigh_more_in_the_cross_entropy():
    classes = torch.zeros((10, 10, 10), dtype=torch.uint8)
    classes[:1] = 1
    scan = LabelledScan("one", torch.zeros(10, 10, 10), classes, (1.0, 1.0, 1.0))
    even, balanced = class_weights([scan], 0.0), class_weights([scan], 0.5)
    torch.testing.assert_close(even, torch.ones(len(CLASSES)))
    assert balanced[1] / balanced[0] == pytest.approx(3.0)
    assert balanced[0] * 0.9 + balanced[1] * 0.1 == pytest.approx(
        1.0, abs=0.5
    )  # classes that do not occur count as one voxel each
    assert balanced.max() <= 30
