import importlib.util
import json

import numpy as np
import pytest

from core.anatomy.totalsegmentator import TotalSegmentatorConfig, TotalSegmentatorSegmenter
from core.errors import Cancelled, ConfigError, EngineError
from core.volume import Volume

installed = importlib.util.find_spec("totalsegmentator") and importlib.util.find_spec("nnunetv2")
needs_totalsegmentator = pytest.mark.skipif(
    not installed, reason="TotalSegmentator is not installed (requirements-seg.txt)"
)

HEART = 51
DATASET = "Dataset297_TotalSegmentator_total_3mm_1559subj"
MODEL = "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres"
NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
ARCHITECTURE = {
    "n_stages": 2,
    "features_per_stage": [4, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
IMPORTS = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def plans():
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 32, 32],
        "median_image_size_in_voxels": [32.0, 32.0, 32.0],
        "spacing": [3.0, 3.0, 3.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": NETWORK,
            "arch_kwargs": ARCHITECTURE,
            "_kw_requires_import": IMPORTS,
        },
        "batch_dice": False,
    }
    intensity = {"mean": 0.0, "std": 100.0, "median": 0.0, "min": -1024.0, "max": 3000.0}
    intensity |= {"percentile_00_5": -1024.0, "percentile_99_5": 1000.0}
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 3.0, 3.0],
        "original_median_shape_after_transp": [32, 32, 32],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensity},
    }


def bright_is_heart():
    """Weights by hand: the CT passes through, and what is brighter than the average gets the heart's number."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    kwargs = ARCHITECTURE | {
        "conv_op": torch.nn.Conv3d,
        "norm_op": torch.nn.InstanceNorm3d,
        "nonlin": torch.nn.LeakyReLU,
        "input_channels": 1,
        "num_classes": 118,
        "deep_supervision": False,
    }
    network = PlainConvUNet(**kwargs)
    weights = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for name, value in weights.items():
        if value.ndim == 1 and name.endswith("weight"):  # normalisation; it goes by two names
            value.fill_(1.0)
        if value.ndim == 5 and value.shape[2:] == (3, 3, 3) and ("stages.0" in name):
            skipped = 4 if "decoder.stages" in name else 0  # the skip connection comes after the upsampled half
            value[0, skipped, 1, 1, 1] = 1.0
        if "seg_layers" in name and name.endswith("weight"):
            value[HEART, 0] = 10.0
        if "seg_layers" in name and name.endswith("bias"):
            value[0] = 5.0  # background, unless clearly bright
    return weights


@pytest.fixture
def weights(tmp_path):
    from core.anatomy.torchvision_shim import make_torchvision_importable

    make_torchvision_importable()
    import torch

    folder = tmp_path / "weights" / DATASET / MODEL
    (folder / "fold_0").mkdir(parents=True)
    labels = {"background": 0} | {f"class_{number}": number for number in range(1, 118)}
    about = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about))
    (folder / "plans.json").write_text(json.dumps(plans()))
    checkpoint = {
        "network_weights": bright_is_heart(),
        "trainer_name": "nnUNetTrainer_4000epochs_NoMirroring",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return tmp_path / "weights"


def volume_with_a_bright_cube():
    """LPS with thick slices; the cube is centred on one known point of the patient."""
    affine = np.array([[-2.0, 0, 0, 70.0], [0, -2.0, 0, 80.0], [0, 0, 4.0, -50.0], [0, 0, 0, 1.0]])
    hu = np.zeros((60, 50, 24), np.int16)
    hu[10:20, 30:40, 5:10] = 800
    return Volume.from_source(hu, affine), (affine @ [14.5, 34.5, 7, 1])[:3]


@needs_totalsegmentator
def test_the_real_program_with_a_network_of_ours_marks_the_bright_cube_in_its_place(weights):
    volume, centre_mm = volume_with_a_bright_cube()
    seen = []
    segmenter = TotalSegmentatorSegmenter(TotalSegmentatorConfig(weights=weights))
    assert segmenter.availability() == (True, "")
    masks = segmenter.segment(volume, lambda fraction, message: seen.append(fraction))
    heart = np.argwhere(masks.mask("heart"))
    np.testing.assert_allclose(volume.grid.to_mm(heart.mean(axis=0)), centre_mm, atol=2.0)
    assert 250 < len(heart) < 900  # 500 voxels, softened by the way to 3 mm and back
    assert masks.engine == "totalsegmentator"
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@needs_totalsegmentator
def test_cancel_ends_the_process(weights):
    def cancel_soon(fraction, message):
        if fraction > 0.005:
            raise Cancelled("stopped")

    segmenter = TotalSegmentatorSegmenter(TotalSegmentatorConfig(weights=weights))
    with pytest.raises(Cancelled):
        segmenter.segment(volume_with_a_bright_cube()[0], cancel_soon)


@needs_totalsegmentator
def test_a_broken_checkpoint_is_told_in_one_sentence(weights):
    (checkpoint,) = weights.rglob("checkpoint_final.pth")
    checkpoint.write_bytes(b"")
    segmenter = TotalSegmentatorSegmenter(TotalSegmentatorConfig(weights=weights))
    with pytest.raises(EngineError, match="stopped with code"):
        segmenter.segment(volume_with_a_bright_cube()[0])


def test_without_weights_it_says_where_it_looked(tmp_path):
    segmenter = TotalSegmentatorSegmenter(TotalSegmentatorConfig(home=tmp_path))
    can_run, reason = segmenter.availability()
    assert not can_run
    assert str(tmp_path) in reason if installed else "requirements-seg.txt" in reason
    with pytest.raises(EngineError, match="cannot run here"):
        segmenter.segment(volume_with_a_bright_cube()[0])


def test_an_unknown_quality_is_refused():
    with pytest.raises(ConfigError, match="'superb'"):
        TotalSegmentatorConfig(quality="superb")
