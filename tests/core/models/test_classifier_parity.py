"""The published linear probe, number by number (ASAP spec 6.1)."""

import json
import os
from pathlib import Path

import pytest
import torch
from asap_golden import in_float32
from torch.testing import assert_close

from core.models.backbone import BackboneConfig
from core.models.classifier import RELEASED_HEAD, Classifier, ClassifierConfig
from core.models.vit import VisionConfig

FOLDER = Path(os.environ.get("ASAP_FIXTURES", Path(__file__).resolve().parents[4] / "shared" / "fixtures")) / "asap"


@pytest.mark.skipif(not (FOLDER / "probe.json").is_file(), reason=f"no probe.json in {FOLDER} (set ASAP_FIXTURES)")
def test_pooled_feature_logits_and_cls_are_the_published_ones():
    about = json.loads((FOLDER / "probe.json").read_text())
    sizes, files = about["config"], about["files"]
    weights, expected = in_float32(FOLDER / files["weights"]), in_float32(FOLDER / files["expected"])
    images = in_float32(FOLDER / files["volumes"])["image"][: len(expected["logits"])]
    vision = VisionConfig(
        tuple(sizes["img_size"]), tuple(sizes["patch_size"]), sizes["embed_dim"], sizes["depth"], sizes["num_heads"]
    )
    classes = tuple(f"label {number}" for number in range(about["num_classes"]))
    model = Classifier(ClassifierConfig(BackboneConfig(vit=vision), classes, head=RELEASED_HEAD)).eval()
    named = {f"encoder.{name}": value for name, value in weights.items()}
    wanted = model.backbone.state_dict()
    model.backbone.load_state_dict({name: named[name] for name in wanted})
    model.head.linear.load_state_dict({"weight": expected["head.weight"], "bias": expected["head.bias"]})
    limits = {"atol": about["tolerance"]["atol"], "rtol": about["tolerance"]["rtol"]}
    with torch.no_grad():
        pooled = model.pool(images)
        assert_close(model.head.normalise(pooled), expected["pooled_feature"], **limits)
        assert_close(model.classify(images), expected["logits"], **limits)
        assert_close(model.backbone.last_tokens(images, with_norm=True).cls, expected["cls_feature"], **limits)
        # what patches add: their mean and the bias are the logit
        parts = model.explain(images).mean(dim=(2, 3, 4)) + model.head.linear.bias
        assert_close(parts, expected["logits"], **limits)
