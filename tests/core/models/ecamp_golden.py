"""Reading the golden numbers of the published ECAMP code into our model."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from asap_golden import in_float32
from safetensors.torch import load_file
from torch import Tensor

from core.models.bert import BertConfig
from core.models.ecamp import ECAMP
from core.models.ecamp_config import ECAMPConfig, ReportTask, SuperResolutionConfig
from core.models.ecamp_names import published_weights
from core.models.mae import DecoderConfig
from core.models.vit import VisionConfig


class EcampGolden(NamedTuple):
    """The fixture: its description, weights under published names, inputs, outputs and gradients."""

    about: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]
    gradients: dict[str, Tensor]

    def check(self, name: str, got: Tensor) -> None:
        atol = self.about["tolerance"]["atol"].get(name, 1e-5)
        want = self.expected[name].float()
        if name in self.about["tolerance"]["exact"]:
            assert torch.equal(got.float(), want), name
        torch.testing.assert_close(got.detach().float(), want, atol=atol, rtol=1e-4, msg=lambda m: f"{name}: {m}")


def load_ecamp(fixtures: Path) -> EcampGolden:
    folder = fixtures / "ecamp"
    about = json.loads((folder / "ecamp.json").read_text())
    files = about["files"]
    return EcampGolden(
        about,
        in_float32(folder / files["weights"]),
        in_float32(folder / files["inputs"]),
        load_file(folder / files["expected"]),
        load_file(folder / files["gradients"]),
    )


def flat_config(golden: EcampGolden) -> ECAMPConfig:
    """The published network on pictures, as the fixture sizes it."""
    sizes, report = golden.about["config"], golden.about["config"]["report_decoder"]
    side, patch, ratio = sizes["img_size"], sizes["patch_size"], sizes["mlp_ratio"]
    channels = golden.weights["patch_embed.proj.weight"].shape[1]
    scale = golden.inputs["image"].shape[-1] // side
    return ECAMPConfig(
        vision=VisionConfig(
            (side, side, 1), (patch, patch, 1), sizes["embed_dim"], sizes["depth"], sizes["num_heads"], ratio,
            sizes["norm_eps"], channels, coded_axes=(1, 0), slow_positions=True,
        ),
        decoder=DecoderConfig(
            sizes["decoder_embed_dim"], sizes["decoder_depth"], sizes["decoder_num_heads"], ratio, injection_block=0
        ),
        report=BertConfig(
            report["vocab_size"], report["hidden_size"], report["num_hidden_layers"], report["num_attention_heads"],
            report["intermediate_size"], report["max_position_embeddings"],
        ),
        mask_ratio=sizes["mask_ratio"],
        mim_norm="all",
        language_on="all",
        sr=SuperResolutionConfig(
            scale=(scale, scale, 1), shrink="bicubic", window=golden.about["window"], norm="all", ends_in_relu=True
        ),
        task=ReportTask(max_tokens=sizes["text_len"], as_released=True),
    )  # fmt: skip


def flat_batch(golden: EcampGolden) -> dict[str, Tensor]:
    inputs = golden.inputs
    first = torch.zeros_like(inputs["column"])
    return {
        "image": inputs["image"][..., None],
        "report_ids": inputs["ids"],
        "report_attn": inputs["attention_mask"].bool(),
        "mlm_in": inputs["masked_ids"],
        "mlm_weight": inputs["weights"],
        "sr_corner": torch.stack([inputs["column"], inputs["row"], first], dim=1),
    }


def flat_model(golden: EcampGolden) -> ECAMP:
    """Our model with the published weights, in eval mode."""
    torch.manual_seed(0)
    model = ECAMP(flat_config(golden)).eval()
    model.load_state_dict(published_weights(golden.weights))
    return model
