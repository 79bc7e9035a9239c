"""Published weight files as tests make them: random numbers under the true names, of true or of small sizes."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

FVLM_NAMES = (
    (r"^temperature\.value$", "temp"),
    (r"^pool\.", ""),
    (r"^visual_encoder\.patch_embed\.proj\.", "visual_encoder.patch_embedding.patch_embeddings."),
    (r"^visual_encoder\.pos_embed$", "visual_encoder.patch_embedding.position_embeddings"),
    (r"^(visual_encoder\.blocks\.\d+\.attn)\.proj\.", r"\1.out_proj."),
    (r"^(visual_encoder\.blocks\.\d+\.mlp)\.fc", r"\1.linear"),
    (r"^text_encoder\.bert\.", "text_encoder."),
)
VISD_NAMES = (
    (r"^temperature\.value$", "temp"),
    (r"^(pool|normality)\.", ""),
    (r"^text_encoder\.bert\.", "text_encoder."),
)


def as_published(state: Mapping[str, Tensor], names: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    """Weights of one of our models under published names; counters, which are ours, left out."""
    renamed = {}
    for name, value in state.items():
        for ours, published in names:
            if re.search(ours, name):
                name = re.sub(ours, published, name)
                break
        if not name.endswith(".counter"):
            renamed[name] = value.clone()
    return renamed


def read_layout(path: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Name -> shape and type of a specs/layouts table."""
    rows = [row.split("\t") for row in path.read_text().splitlines() if row and not row.startswith("#")]
    return {
        name: (() if shape == "scalar" else tuple(int(n) for n in shape.split("x")), getattr(torch, kind))
        for name, shape, kind in rows
    }


def draw_weights(layout: Mapping[str, tuple[tuple[int, ...], torch.dtype]], seed: int = 0) -> dict[str, Tensor]:
    """Small random numbers in half precision, norms near 1, variances positive; integers 0."""
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(1 << 20, generator=generator).mul_(0.02).half()  # repeated: 200 M draws take half a minute
    weights = {}
    for name, (shape, kind) in layout.items():
        count = torch.Size(shape).numel()
        if not kind.is_floating_point or name.endswith("bias"):  # biases would drown what so small weights see
            weights[name] = torch.zeros(shape, dtype=kind if not kind.is_floating_point else torch.float16)
            continue
        value = block.roll(len(weights) * 7919).repeat(-(-count // len(block)))[:count].reshape(shape)
        if name.endswith(("running_var", "temp")):
            value = value.abs() + (0.07 if name == "temp" else 1)
        elif re.search(r"(norm\d?|LayerNorm|bn\d)\.weight$", name):
            value = value + 1
        weights[name] = value.clone()
    return weights


def write_lavis(path: Path, weights: Mapping[str, Tensor]) -> Path:
    """A file as the trainer of fVLM and ViSD-Boost saves it, with a moment of the optimiser and its config."""
    moment = {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    told = {"run": {"amp": False, "lr": 1e-4}, "model": {"arch": "x"}}
    torch.save({"model": dict(weights), "optimizer": moment, "config": told, "scaler": None, "epoch": 7}, path)
    return path


def write_mae(path: Path, weights: Mapping[str, Tensor]) -> Path:
    """A file as ASAP's, ECAMP's and MAE's training code saves it."""
    extra = {"optimizer": {"state": {}}, "epoch": 80, "scaler": {}, "args": argparse.Namespace(lr=1.5e-4, out="x")}
    torch.save({"model": dict(weights), **extra}, path)
    return path
