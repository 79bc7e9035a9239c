"""Reading the golden numbers of the published ViSD-Boost code."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asap_golden import in_float32
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor

from core.models.bert import BertConfig
from core.models.codebook import Codebook, CodebookConfig
from core.models.contrast import TemperatureConfig
from core.models.normality_vq import NormalityConfig, NormalityVQ
from core.models.resnet3d import ResNetConfig, ResNetTokens
from core.models.visd import VISD, rename_published
from core.models.visd_config import VISDConfig


@dataclass
class VisdGolden:
    """What the fixture folder says: description, weights, image, masks, text features and expected tensors."""

    about: dict[str, Any]
    weights: dict[str, Tensor]
    image: Tensor  # (B, 1, Z, Y, X) float32
    mask: Tensor  # (B, Z, Y, X) uint8
    text: Tensor  # (items, 2, E) float32
    expected: dict[str, Tensor]
    compared: set[str] = field(default_factory=set)

    @property
    def images(self) -> Tensor:
        """As our batches lie, (B, 1, X, Y, Z)."""
        return rearrange(self.image, "b c z y x -> b c x y z")

    @property
    def masks(self) -> Tensor:
        """(B, X, Y, Z)."""
        return rearrange(self.mask, "b z y x -> b x y z")

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Weights below a prefix, without it."""
        return {name.removeprefix(prefix): v for name, v in self.weights.items() if name.startswith(prefix)}

    def check(self, name: str, got: Tensor) -> None:
        atol = self.about["tolerance"]["atol"].get(name, 1e-5)
        wanted = self.expected[name]
        self.compared.add(name)
        if not wanted.is_floating_point():
            assert torch.equal(got, wanted), f"{name} differs"
            return
        torch.testing.assert_close(got.detach().float(), wanted, atol=atol, rtol=1e-4, msg=lambda m: f"{name}: {m}")

    def check_gradient(self, name: str, got: Tensor) -> None:
        rule, wanted = self.about["tolerance"]["gradients"], self.expected[name]
        self.compared.add(name)
        atol = rule["atol_relative_to_max"] * float(wanted.abs().max())
        torch.testing.assert_close(got, wanted, rtol=rule["rtol"], atol=atol, msg=lambda m: f"{name}: {m}")

    def resnet_config(self, detach_shortcut: bool = True) -> ResNetConfig:
        names = self.part("visual_encoder.res_model.")
        blocks = tuple(len({n.split(".")[1] for n in names if n.startswith(f"layer{k}.")}) for k in (1, 2, 3, 4))
        config = self.about["config"]
        assert len(blocks) == 4
        return ResNetConfig(tuple(config["widths"]), blocks, detach_shortcut=detach_shortcut)

    def resnet(self, detach_shortcut: bool = True) -> ResNetTokens:
        encoder = ResNetTokens(self.resnet_config(detach_shortcut), self.about["config"]["dim"]).eval()
        encoder.load_state_dict(self.part("visual_encoder."))
        return encoder

    def normality_config(self) -> NormalityConfig:
        config, told = self.about["config"], self.about["vq_update"]
        book = CodebookConfig(
            config["codes"] // len(self.about["organs"]), decay=told["decay"], epsilon=told["epsilon"], unused="zero"
        )
        return NormalityConfig(
            hidden=len(self.weights["encoder.input1.bias"]),
            code_width=config["vq_dim"],
            depth=config["vq_depth"],
            heads=config["vq_heads"],
            head_width=config["vq_dim_head"],
            mlp_width=config["vq_mlp"],
            commitment=told["commitment"],
            codebook=book,
        )

    def normality(self) -> NormalityVQ:
        model = NormalityVQ(self.normality_config(), len(self.about["organs"]), self.about["config"]["dim"]).eval()
        starts = ("encoder.", "decoder.", "id_projs.", "vq_layer.")
        report = model.load_state_dict({n: v for n, v in self.weights.items() if n.startswith(starts)}, strict=False)
        assert not report.unexpected_keys
        assert not report.missing_keys
        return model

    def codebook(self) -> Codebook:
        """The stored book, no update behind it."""
        book = self.normality().vq_layer
        for average in (book.ema_dw, book.ema_cluster_size):
            average.hidden.zero_()
            average.counter.zero_()
        return book

    def model(self) -> VISD:
        """The whole model with the stored weights; its text branch is not in the fixture."""
        about, config = self.about, self.about["config"]
        text = BertConfig(vocab_size=5, width=8, depth=0, heads=1, mlp_width=1, positions=4)
        z, y, x = config["volume"]
        model = VISD(
            VISDConfig(
                organs=tuple(about["organs"]),
                image_size=(x, y, z),
                resnet=self.resnet_config(),
                token_width=config["dim"],
                normality=self.normality_config(),
                text=text,
                embed=config["embed"],
                pool_heads=config["pool_heads"],
                temperature=TemperatureConfig(config["temp"]),
            )
        )
        renamed = {rename_published(name): value for name, value in self.weights.items()}
        report = model.load_state_dict(renamed, strict=False)
        assert not report.unexpected_keys
        assert all(name.startswith(("text_encoder.", "text_proj.")) for name in report.missing_keys)
        return model.eval()


def load_visd(folder: Path) -> VisdGolden:
    about = json.loads((folder / "visd.json").read_text())
    files = about["files"]
    inputs = in_float32(folder / files["inputs"])
    return VisdGolden(
        about,
        in_float32(folder / files["weights"]),
        inputs["image"].float() / 256,
        torch.from_numpy(np.load(folder / files["masks"])["seg"]),
        inputs["text"],
        load_file(folder / files["expected"]),
    )
