"""Folders of runs of every recipe as trainers.pretrain leaves them: untrained, small, geometry real."""

import json
from pathlib import Path

import torch

from core.models import asap_config, asg_config, ecamp_config, fvlm_config, visd_config
from core.models.asap import ASAP
from core.models.asg import ASG
from core.models.ecamp import ECAMP
from core.models.fvlm import FVLM
from core.models.model_file import ModelFacts, save_model
from core.models.tokens import ReportTokenizer, train_wordpiece
from core.models.visd import VISD

TEXTS = ["a nodule in the left lower lobe of the lung", "no pleural effusion, the heart is not enlarged", "aorta liver"]


def words() -> ReportTokenizer:
    return train_wordpiece(TEXTS, 200)


def write_run(folder: Path, kind: str, **facts: str) -> torch.nn.Module:
    """model.safetensors of an untrained model of `kind`, a recipe or "visd_vit"; returns the model."""
    tokenizer = words()
    size = tokenizer.vocab_size
    build, config, crop, spacing = {
        "asap": (ASAP, asap_config.tiny(size), (32, 32, 16), (9.0, 9.0, 18.0)),
        "asg": (ASG, asg_config.tiny(size), (32, 32, 16), (9.0, 9.0, 18.0)),
        "fvlm": (FVLM, fvlm_config.tiny(size), (32, 32, 16), (8.0, 8.0, 12.0)),
        "visd": (VISD, visd_config.tiny(size), (64, 64, 32), (4.0, 4.0, 6.0)),
        "visd_vit": (VISD, visd_config.tiny_vit(size), (64, 64, 32), (4.0, 4.0, 6.0)),
        "ecamp": (ECAMP, ecamp_config.ecamp_tiny(size), (32, 32, 16), (9.0, 9.0, 18.0)),
    }[kind]
    torch.manual_seed(0)
    model = build(config).eval()
    for name, parameter in model.named_parameters():  # untrained queries are zero and see the mean of everything
        if "query_tokens" in name:
            torch.nn.init.normal_(parameter)
    is_organs = kind in ("fvlm", "visd", "visd_vit")
    told = {
        "spacing_mm": json.dumps(spacing),
        "window_hu": "[-1000.0, 400.0]",
        "shown_as": "[0.0, 1.0]" if is_organs else "[-1.0, 1.0]",
        "crop": json.dumps(crop),
        "organ_map": "fvlm4" if is_organs else "asap9",
        "resample": "smooth",
    }
    about = ModelFacts(kind.removesuffix("_vit"), "tiny", told | facts)
    save_model(folder / "model.safetensors", model, tokenizer, about)
    return model
