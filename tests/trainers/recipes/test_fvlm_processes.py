"""fVLM in two processes, replicated or in shards, takes the steps of one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from gloo_ranks import run_ranks
from torch import Tensor

from core.models.abnormal_pairs import AbnormalPairs
from core.models.fvlm import FVLM
from core.models.fvlm_config import tiny
from core.models.level_vit import LevelVisionConfig
from trainers.loop import LoopConfig, train
from trainers.optim import OptimConfig
from trainers.recipes.fvlm import STAGES
from trainers.run_log import LOG, LogConfig

KINDS = ("coteach", "ema_self")


class Studies:
    """Four studies; all have their own lung text, hearts are normal in two, the aorta of one is cut off."""

    def __len__(self) -> int:
        return 4

    def set_epoch(self, epoch: int) -> None:
        pass

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draws = torch.Generator().manual_seed(index)
        mask = torch.zeros(16, 16, 8, dtype=torch.uint8)
        mask[1:7, 1:15, 1:7], mask[8:15, 1:7, 1:7], mask[8:15, 9:15, 1:7] = 1, 2, 4
        mask[8, 9, 0] = 4 * (index == 2)
        said = 10 * torch.tensor([[index, index // 2, 0, index]]) + 5
        return {
            "image": torch.rand(1, 16, 16, 8, generator=draws),
            "organ_mask": mask,
            "organ_ids": said.T.expand(-1, 6),
            "organ_attn": torch.ones(4, 6, dtype=torch.bool),
            "organ_text_id": said[0],  # equal numbers mean equal texts
            "organ_abnormal": torch.tensor([1, index % 2, 0, index == 3], dtype=torch.int8),
        }


def train_here(folder: Path, kind: str, processes: int, **changes: object) -> Tensor:
    """Losses by organ, their sum and gradient norms of four steps, (4, 6), as logged."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    torch.manual_seed(7)
    vision = LevelVisionConfig((16, 16, 8), (8, 8, 4), width=12, depth=2, heads=2, mlp_width=24, dropout=0, levels=(1,))
    text = replace(tiny(50).text, width=12, depth=1, heads=2, mlp_width=24)
    pairs = AbnormalPairs(kind, share=0.3)
    model = FVLM(replace(tiny(50), vision=vision, text=text, embed=8, pool_heads=2, abnormal=pairs))
    optim = OptimConfig(steps=4, warmup_steps=1, peak_lr=3e-3, weight_decay=0.1, decay_all=True)
    loop = LoopConfig(batch_size=4 // processes, cpu=True, log=LogConfig(every=1), optim=optim)
    train(model, Studies(), replace(loop, **changes), folder, STAGES[0])
    logged = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return torch.tensor([[*entry["losses"].values(), entry["gradient_norm"]] for entry in logged])


def train_on_rank(_rank: int, folder: str) -> dict[str, Tensor]:
    runs = [(kind, sharding) for kind in KINDS for sharding in ("ddp", "fsdp")]
    return {
        f"{kind} {sharding}": train_here(Path(folder) / kind / sharding, kind, 2, sharding=sharding)
        for kind, sharding in runs
    }


@pytest.mark.training
def test_two_processes_take_the_steps_of_one(tmp_path):
    found = run_ranks(2, train_on_rank, tmp_path, str(tmp_path / "two"))[0]
    for kind in KINDS:
        alone = train_here(tmp_path / "one" / kind, kind, 1)
        assert alone[:, [0, 1, 3]].all(), "all organs but the esophagus are compared"
        assert len(alone) == 4
        for sharding in ("ddp", "fsdp"):
            torch.testing.assert_close(found[f"{kind} {sharding}"], alone, atol=1e-5, rtol=1e-4)
