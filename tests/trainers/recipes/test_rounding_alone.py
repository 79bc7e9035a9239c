"""ASG and ViSD-Boost in two processes take the steps of one: what float32 losses differ by is rounding alone.

Batch statistics of few rows, and differences of vectors that are nearly equal, blow rounding up from step to step, as
they do when one process starts from weights that are one bit off. In float64 there is nothing to blow up.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from gloo_ranks import run_ranks
from torch import Tensor, nn

from core.models.asg import ASG
from core.models.asg_config import tiny as tiny_asg
from core.models.resnet3d import ResNetConfig
from core.models.visd import VISD
from core.models.visd_config import tiny as tiny_visd
from trainers.loop import LoopConfig, train
from trainers.optim import OptimConfig
from trainers.recipes import asg, visd
from trainers.run_log import LOG, LogConfig

STEPS = 8
STAGES = {"asg": asg.STAGES, "visd": visd.TINY_STAGES}
SIZES = {"asg": (32, 32, 16), "visd": (32, 32, 16)}


@contextmanager
def doubled() -> Iterator[None]:
    """float64 wherever the models would make or ask for float32."""
    single, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.Tensor.float = single
        torch.set_default_dtype(torch.float32)


def widen(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


class WideASG(ASG):
    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().forward(widen(batch))


class WideVISD(VISD):
    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().forward(widen(batch))


class Studies:
    """Six studies with two organs, of which one is cut off, absent or ill in some: processes hold different numbers."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 6

    def set_epoch(self, epoch: int) -> None:
        pass

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draws, size = torch.Generator().manual_seed(index), SIZES[self.kind]
        mask = torch.zeros(size, dtype=torch.uint8)
        mask[2:15, 2:30, 2:14] = 1
        mask[18:30, 2:30, 2:14] = 2 * (index != 1)
        mask[18, 9, 0] = 2 * (index == 2)
        image = torch.rand(1, *size, generator=draws, dtype=torch.float32)
        made = {"image": image, "organ_mask": mask}
        return made | (told_to_asg(index, draws) if self.kind == "asg" else told_to_visd(index, image, mask))


def told_to_asg(index: int, draws: torch.Generator) -> dict[str, Tensor]:
    """A report of three sentences, fewer of which are about an organ in odd studies."""
    length = 9 + index % 3
    return {
        "report_ids": torch.cat([torch.tensor([2]), torch.randint(5, 40, (length - 1,), generator=draws)]),
        "report_attn": torch.ones(length, dtype=torch.bool),
        "report_sent": (torch.arange(length) // 4 + 1).to(torch.int16),
        "sent_organ": torch.tensor([[True, False], [index % 2 == 0, True], [False, False]]),
        "tags": torch.randint(-1, 2, (3,), generator=draws).to(torch.int8),
    }


def told_to_visd(index: int, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """A second view, and for each organ a text and whether it is ill."""
    said = 7 * torch.tensor([[index], [index // 2]]) + 5
    return {
        "image_v2": 0.9 * image.flip(1) + 0.02,
        "organ_mask_v2": mask.flip(0),
        "organ_ids": said.expand(-1, 6),
        "organ_attn": torch.ones(2, 6, dtype=torch.bool),
        "organ_text_id": said[:, 0],
        "organ_abnormal": torch.tensor([index % 3 == 0, index == 4], dtype=torch.int8),
    }


def a_model(kind: str) -> nn.Module:
    torch.manual_seed(7)
    if kind == "asg":
        return WideASG(replace(tiny_asg(40), organs=2, tags=("one", "two", "three"))).double()
    config, resnet = tiny_visd(50), ResNetConfig((2, 4, 4, 8), (1, 1, 1, 1))
    return WideVISD(replace(config, organs=("lung", "heart"), image_size=SIZES[kind], resnet=resnet, queue=8)).double()


def train_here(kind: str, folder: Path, processes: int) -> dict[str, Tensor]:
    """Losses, their total and the gradient norm of every step, one row a step, by stage."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    optim = OptimConfig(steps=STEPS, warmup_steps=1, peak_lr=2e-3, betas=(0.9, 0.999))
    loop = LoopConfig(batch_size=4 // processes, cpu=True, log=LogConfig(every=1), checkpoint_every=STEPS, optim=optim)
    found = {}
    with doubled():
        model = a_model(kind)
        for stage in STAGES[kind]:
            model = train(model, Studies(kind), loop, folder / stage.name, stage)
            logged = [json.loads(line) for line in (folder / stage.name / LOG).read_text().splitlines()]
            rows = [[*entry["losses"].values(), entry["gradient_norm"]] for entry in logged]
            found[stage.name] = torch.tensor(rows, dtype=torch.float64)
    return found


def train_on_rank(_rank: int, kind: str, folder: str) -> dict[str, Tensor]:
    return train_here(kind, Path(folder), 2)


@pytest.mark.training
@pytest.mark.parametrize("kind", list(STAGES))
def test_nothing_but_rounding_differs_between_two_processes_and_one(kind, tmp_path):
    two = run_ranks(2, train_on_rank, tmp_path, kind, str(tmp_path / "two"))[0]
    for stage, alone in train_here(kind, tmp_path / "one", 1).items():
        assert bool((alone[:, -2] > 0).any()), stage
        torch.testing.assert_close(two[stage], alone, atol=1e-9, rtol=1e-9, msg=lambda told, at=stage: f"{at}: {told}")
