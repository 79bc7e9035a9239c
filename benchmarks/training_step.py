"""One training step of ASAP at its published size, beside the published code's way of computing it. Prints JSON.

    python -m benchmarks.training_step [--steps 2]

Forward, backward and optimiser on one random 224x224x112 crop with 512-token texts (200 real tokens, ten sentences) in
float32. Three processes run one after the other: `published` (`benchmarks.published_step`), `released` and `corrected`
with findings that the frozen text encoder has read before. Seconds are the fastest step after the first; the peak is
the process's largest resident size.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from benchmarks.machine import figure
from core.models.asap import ASAP
from core.models.asap_config import corrected, released
from core.models.text_cache import TextCache
from trainers.allocator import tune_allocator
from trainers.early_steps import EarlySteps, settle_early
from trainers.optim import OptimConfig, build_adamw

TOKENS, REAL, PER_SENTENCE = 512, 200, 20
VARIANTS = ("published", "released", "corrected")


def random_batch(classes: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """One study of the published size; see `trainers.batch` for names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(TOKENS)[None]
    is_real = place < REAL
    ids = torch.randint(5, 30000, (1, TOKENS), generator=generator).masked_fill(~is_real, 0)
    ids[:, 0] = 2
    hidden = (torch.rand(ids.shape, generator=generator) < 0.75) & is_real & (place > 0)
    return {
        "image": torch.rand(1, 1, 224, 224, 112, generator=generator) * 2 - 1,
        "organ_mask": torch.randint(0, classes, (1, 224, 224, 112), generator=generator).to(torch.uint8),
        "findings_ids": ids,
        "findings_attn": is_real,
        "findings_sent": ((place // PER_SENTENCE + 1) * is_real).to(torch.int16),
        "report_ids": ids,
        "report_attn": is_real,
        "mlm_in": torch.where(hidden, 4, ids),
        "mlm_labels": torch.where(hidden, ids, -100),
    }


def prepare(variant: str) -> tuple[ASAP, AdamW, dict[str, torch.Tensor]]:
    """Model, optimiser and batch of one variant, from the same seed."""
    torch.manual_seed(0)
    if variant == "published":
        return prepare_published()
    model = ASAP(released() if variant == "released" else corrected())
    optimizer = build_adamw(model, OptimConfig())
    batch = random_batch(model.config.classes)
    if variant == "corrected":
        batch = {name: value[:, :REAL] if value.shape[1:] == (TOKENS,) else value for name, value in batch.items()}
        model.text_cache = TextCache(Path(tempfile.mkdtemp()), model.bert_encoder)
    return model.train(), optimizer, batch


def prepare_published() -> tuple[ASAP, AdamW, dict[str, torch.Tensor]]:
    """The published way: labels as float32, as its transforms leave them, and PyTorch's AdamW, tensor by tensor."""
    from benchmarks.published_step import PublishedStep

    model = PublishedStep(released())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.05},
    ]
    batch = random_batch(model.config.classes)
    batch["organ_mask"] = batch["organ_mask"].float()
    return model.train(), AdamW(groups, lr=1.5e-4, betas=(0.9, 0.95)), batch


def run_steps(variant: str, steps: int) -> dict[str, float]:
    """Fastest step after the first in wall and processor seconds, the process's peak, and the first step's loss."""
    if variant != "published":
        tune_allocator()
    model, optimizer, batch = prepare(variant)
    early = None if variant == "published" else EarlySteps(optimizer)
    settle_early(model, early is not None)
    wall, cpu, first = [], [], 0.0
    for step in range(steps + 1):
        began, worked = time.perf_counter(), time.process_time()
        losses = model(batch)
        losses["total"].backward()
        if early is None:
            optimizer.step()
        else:
            early.finish()
        optimizer.zero_grad(set_to_none=True)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
        first = first if step else losses["total"].item()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"wall_s": min(wall[1:]), "cpu_s": min(cpu[1:]), "peak_gb": peak, "loss": first}


def measure(steps: int) -> dict[str, Any]:
    """All variants, each in a process of its own, and how ours compare."""
    told: dict[str, dict[str, float]] = {}
    for variant in VARIANTS:
        command = [sys.executable, "-m", "benchmarks.training_step", "--variant", variant, "--steps", str(steps)]
        told[variant] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    published = told["published"]

    def ratio(variant: str, entry: str) -> float:
        return told[variant][entry] / published[entry]

    return {
        "figures": [
            figure("released: time over the published way", ratio("released", "wall_s"), 0.6, "ratio"),
            figure("released: peak memory over the published way", ratio("released", "peak_gb"), 0.7, "ratio"),
            figure("corrected, findings read before: time", ratio("corrected", "wall_s"), 0.5, "ratio"),
        ],
        "processor_time_ratio": {name: round(ratio(name, "cpu_s"), 3) for name in VARIANTS},
        "measured": {name: {key: round(value, 3) for key, value in entry.items()} for name, entry in told.items()},
    }


def main() -> None:
    """Measure and print, or run one variant and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2, help="steps after the first")
    parser.add_argument("--variant", choices=VARIANTS, help="run only this one, in this process")
    given = parser.parse_args()
    told = run_steps(given.variant, given.steps) if given.variant else measure(given.steps)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
