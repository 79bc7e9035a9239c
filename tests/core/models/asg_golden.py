"""Reading the golden numbers of the published ASG code."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from asap_golden import in_float32
from safetensors.torch import load_file
from torch import Tensor

from core.models.asg import published_weights
from core.models.asg_config import ASGConfig, ASGFixes, released
from core.models.asg_flat import FlatASG
from core.models.bert import BertConfig
from core.models.projection import HeadConfig
from core.models.tag_decoder import TagDecoderConfig
from core.models.vit import VisionConfig

CONTINUATIONS = "text_encoder_q.continues"
QUERIES = "irl.tag_queries"


@dataclass
class AsgGolden:
    """What the fixture folder says: description, weights, inputs, expected tensors and gradients."""

    about: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]
    gradients: dict[str, Tensor]
    compared: set[str] = field(default_factory=set)

    def check(self, name: str, got: Tensor) -> None:
        wanted, rule = self.expected[name], self.about["tolerance"]
        got = got.detach().reshape(wanted.shape)
        self.compared.add(name)
        if name in rule["exact"]:
            assert torch.equal(got, wanted), f"{name} differs"
            return
        is_loss = name.rsplit(".", 1)[-1].startswith(("loss_", "total"))
        atol, rtol = rule["atol"].get(name, 1e-5), rule["losses"]["rtol"] if is_loss else 1e-4
        torch.testing.assert_close(got.float(), wanted.float(), atol=atol, rtol=rtol, msg=lambda m: f"{name}: {m}")

    def check_gradient(self, name: str, got: Tensor) -> None:
        rule, wanted = self.about["tolerance"]["gradients"], self.gradients[name].float()
        atol = rule["atol_relative_to_max"] * float(wanted.abs().max())
        got = got.reshape(wanted.shape)
        torch.testing.assert_close(got, wanted, rtol=rule["rtol"], atol=atol, msg=lambda m: f"{name}: {m}")

    def config(self, fixes: ASGFixes) -> ASGConfig:
        told = self.about["config"]
        text, decoder = told["text"], told["irl"]
        mlp = len(self.weights["img_encoder_q.model.blocks.0.mlp.fc1.bias"])
        return replace(
            released(),
            vision=VisionConfig(
                (told["img"], told["img"], 1), (told["patch"], told["patch"], 1), told["width"], told["depth"],
                told["heads"], mlp // told["width"], channels=self.inputs["imgs"].shape[1], learned_positions=True,
            ),
            text=BertConfig(
                text["vocab_size"], text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"],
                text["intermediate_size"], text["max_position_embeddings"], dropout=0.0, attention_dropout=0.0,
                token_types=False,
            ),
            heads=HeadConfig(told["hidden"], told["emb"], "batch"),
            tag_decoder=TagDecoderConfig(decoder["layers"], decoder["heads"], decoder["ffn"], dropout=0.0),
            tags=tuple(f"tag {number}" for number in range(told["tags"])),
            organs=told["regions"],
            temperature=told["tau"],
            fixes=fixes,
        )  # fmt: skip

    def model(self, fixes: ASGFixes) -> FlatASG:
        torch.manual_seed(0)
        model = FlatASG(self.config(fixes)).eval()
        told = model.load_state_dict(published_weights(self.weights), strict=False)
        assert not told.unexpected_keys
        assert sorted(told.missing_keys) == sorted([QUERIES, CONTINUATIONS])
        model.irl.set_queries(self.inputs["tag_features"])
        model.text_encoder_q.continues[self.about["continuation_ids_from"] :] = True
        return model

    def batch(self) -> dict[str, Tensor]:
        """The fixture's inputs in our names. Its boxes name the picture they belong to, which is always their own."""
        inputs = self.inputs
        used = (inputs["regions"] >= 0).all(dim=-1)
        own = torch.arange(len(used))[:, None].expand_as(used)
        assert torch.equal(inputs["regions"][..., 0].long()[used], own[used])
        return {
            "image": inputs["imgs"][..., None],
            "report_ids": inputs["caption_ids"],
            "report_attn": inputs["attention_mask"].bool(),
            "tags": inputs["labels"].to(torch.int8),
            "boxes": inputs["regions"][..., 1:],
            "box_words": inputs["sent_indexs"],
        }


def our_name(name: str) -> str:
    """A published parameter's name in our model; its decoder's norm goes by two."""
    return name.replace("irl.decoder_norm.", "irl.decoder.norm.")


def load_asg(folder: Path) -> AsgGolden:
    about = json.loads((folder / "asg.json").read_text())
    files = about["files"]
    return AsgGolden(
        about,
        in_float32(folder / files["weights"]),
        in_float32(folder / files["inputs"]),
        load_file(folder / files["expected"]),
        load_file(folder / files["gradients"]),
    )
