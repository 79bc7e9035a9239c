"""A model folder with an untrained ASAP: its geometry is real, its opinions are not."""

from pathlib import Path

import torch

from core.grounding.asap_engine import EngineSpec
from core.grounding.view import ViewConfig
from core.models.asap import ASAP
from core.models.asap_config import tiny
from core.models.checkpoint import config_to_json, save_weights
from core.models.tokens import train_wordpiece

TINY_VIEW = ViewConfig((9.0, 9.0, 18.0), (32, 32, 16), (8, 8, 4), subdivisions=2)


def write_tiny_engine(folder: Path) -> None:
    """model.safetensors, tokenizer.json and engine.json in a new `folder`."""
    folder.mkdir(parents=True)
    tokenizer = train_wordpiece(["a nodule in the left lower lobe", "no pleural effusion on the right"], 200)
    torch.manual_seed(0)
    config = tiny(tokenizer.vocab_size)
    save_weights(folder / "model.safetensors", ASAP(config), {"config": config_to_json(config)})
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    (folder / "engine.json").write_text(config_to_json(EngineSpec("bundled", TINY_VIEW)), encoding="utf-8")
