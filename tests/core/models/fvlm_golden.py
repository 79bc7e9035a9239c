"""Reading the golden numbers of the published fVLM, on the axes (X, Y, Z) of this project's batches."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asap_golden import in_float32
from einops import rearrange
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor

from core.models.bert import BertConfig
from core.models.contrast import TemperatureConfig, hash_text
from core.models.fvlm import FVLM, rename_published
from core.models.fvlm_config import FVLMConfig
from core.models.level_vit import LevelVisionConfig
from core.models.tokens import ReportTokenizer
from core.report.organ_statement import Statement, assemble_statement


def to_xyz(volumes: Tensor) -> Tensor:
    return rearrange(volumes, "... z y x -> ... x y z")


@dataclass
class FVLMGolden:
    """One fixture set: its description, weights under the published names, inputs and expected tensors."""

    about: dict[str, Any]
    weights: dict[str, Tensor]
    image: Tensor  # (B, 1, X, Y, Z) float32
    mask: Tensor  # (B, X, Y, Z) uint8
    expected: dict[str, Tensor]
    gradients: dict[str, Tensor]
    compared: set[str] = field(default_factory=set)

    @property
    def organs(self) -> list[str]:
        return self.about["organs"]

    @property
    def tokenizer(self) -> ReportTokenizer:
        """The reference's BertTokenizer over its listed words."""
        vocabulary = {word: index for index, word in enumerate(self.about["vocabulary"])}
        tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
        return ReportTokenizer(tokenizer)

    def check(self, name: str, got: Tensor) -> None:
        want = self.expected[name]
        self.compared.add(name)
        if not want.is_floating_point():
            assert torch.equal(got.to(want.dtype), want), name
            return
        atol = self.about["tolerance"]["atol"].get(name, 1e-5)
        torch.testing.assert_close(got.detach().float(), want, atol=atol, rtol=1e-4, msg=lambda m: f"{name}: {m}")

    def check_gradient(self, name: str, got: Tensor, want: Tensor) -> None:
        rule = self.about["tolerance"]["gradients"]
        atol = rule["atol_relative_to_max"] * float(want.abs().max())
        torch.testing.assert_close(got, want, atol=atol, rtol=rule["rtol"], msg=lambda m: f"{name}: {m}")

    def statements(self) -> list[list[Statement]]:
        """What is said of each organ of each study, by study."""
        told = self.about["text_assembly"]
        return [
            [
                assemble_statement(
                    organ, told["desc_info"][study].get(organ, ""), told["conc_info"][study].get(organ, "")
                )
                for organ in self.organs
            ]
            for study in told["desc_info"]
        ]

    def batch(self) -> dict[str, Tensor]:
        """The fixture's studies as a batch of this project."""
        statements = self.statements()
        spoken = [statement.spoken for study in statements for statement in study]
        ids, attn = self.tokenizer.encode_closed(spoken, self.about["config"]["max_txt_len"])
        studies = len(statements)
        return {
            "image": self.image,
            "organ_mask": self.mask,
            "organ_ids": rearrange(ids, "(b o) t -> b o t", b=studies),
            "organ_attn": rearrange(attn, "(b o) t -> b o t", b=studies),
            "organ_text_id": torch.tensor([[hash_text(s.full) for s in study] for study in statements]),
            "organ_abnormal": torch.tensor([[s.is_abnormal for s in study] for study in statements]).to(torch.int8),
        }

    def config(self, **changes: Any) -> FVLMConfig:
        sizes, text = self.about["config"], self.about["config"]["text"]
        return FVLMConfig(
            organs=tuple(self.organs),
            vision=LevelVisionConfig(
                image_size=tuple(reversed(sizes["table_img"])),
                patch_size=tuple(reversed(sizes["patch"])),
                width=sizes["width"],
                depth=sizes["layers"],
                heads=sizes["heads"],
                mlp_width=sizes["mlp"],
                dropout=sizes["dropout"],
            ),
            text=BertConfig(
                vocab_size=len(self.about["vocabulary"]),
                width=text["hidden_size"],
                depth=text["num_hidden_layers"],
                heads=text["num_attention_heads"],
                mlp_width=text["intermediate_size"],
                positions=text["max_position_embeddings"],
                token_types=False,
            ),
            embed=sizes["embed"],
            temperature=TemperatureConfig(start=sizes["temp"]),
            gather="local_grad",
            **changes,
        )

    def model(self, **changes: Any) -> FVLM:
        """The model with the published weights, every one of them used; evaluation mode."""
        model = FVLM(self.config(**changes))
        renamed = {rename_published(name): value for name, value in self.weights.items()}
        renamed.pop(None, None)
        model.load_state_dict(renamed, strict=True)
        return model.eval()


def load_fvlm(folder: Path) -> FVLMGolden:
    about = json.loads((folder / "fvlm.json").read_text())
    files = about["files"]
    inputs = load_file(folder / files["inputs"])
    return FVLMGolden(
        about,
        in_float32(folder / files["weights"]),
        to_xyz(inputs["image"].float() / 256),
        to_xyz(torch.from_numpy(np.load(folder / files["masks"])["seg"])),
        {**load_file(folder / files["expected"]), "organ_abnormal_flags": inputs["organ_abnormal_flags"]},
        load_file(folder / files["gradients"]),
    )
