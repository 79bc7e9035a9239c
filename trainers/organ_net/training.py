"""Train the organ net on labelled CT: one varied tile a step, cross entropy and Dice on a quarter of its voxels."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from core.anatomy.organ_net import CLASSES, OrganNet, load_organ_net, save_organ_net, show_windows
from core.errors import ConfigError
from trainers.organ_net.acquisition import make_ill, recontrast, scan_again
from trainers.organ_net.labelled import UNKNOWN, LabelledScan, read_labelled
from trainers.organ_net.warping import WarpConfig, draw_warped


@dataclass(frozen=True)
class OrganTraining:
    """Train the embedded organ segmentation from CT with organ masks (NIfTI, numbers of `core.structures`).

    Resumes from --out when it holds a checkpoint of the same settings. Every sample depends on seed and step alone.
    """

    ct: tuple[Path, ...]
    """CT, one NIfTI each."""
    organs: tuple[Path, ...]
    """Their organ masks, in the same order and on the same grids."""
    out: Path
    """Folder for checkpoint, log and the final `organ_net.safetensors`."""
    shares: tuple[float, ...] = ()
    """How often each CT is drawn; empty = equally."""
    init: Path | None = None
    """Weights to start from."""
    steps: int = 4000
    """Tiles to learn from."""
    peak_lr: float = 2e-3
    """After 100 steps of warm-up; falls to 0 along half a cosine."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    class_balance: float = 0.5
    """Power of a class' rarity in the cross entropy: 0 = every voxel weighs the same, 1 = every class."""
    seed: int = 0
    """Of everything."""
    checkpoint_every: int = 100
    """Steps."""
    warp: WarpConfig = field(default_factory=WarpConfig)
    """How far anatomy is varied."""

    def __post_init__(self) -> None:
        if not self.ct or len(self.ct) != len(self.organs):
            raise ConfigError(
                f"Got {len(self.ct)} CT and {len(self.organs)} organ masks; expected as many, at least 1."
            )
        if self.shares and len(self.shares) != len(self.ct):
            raise ConfigError(f"Got {len(self.shares)} shares for {len(self.ct)} CT; expected one each, or none.")
        if not 0 <= self.class_balance <= 1:
            raise ConfigError(f"class_balance is {self.class_balance}; expected 0 to 1.")
        if self.steps < 1 or self.checkpoint_every < 1:
            raise ConfigError("steps and checkpoint_every must be at least 1.")


def make_sample(scan: LabelledScan, config: WarpConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One tile: windows (2, X, Y, Z) float32 in [-1, 1] and classes (X, Y, Z) uint8, 255 = unknown."""
    hu, classes = draw_warped(scan, config, rng)
    recontrast(hu, classes, rng)
    make_ill(hu, classes, rng)
    return show_windows(scan_again(hu, classes, rng)), classes


def thin_out(values: Tensor, rng: np.random.Generator) -> Tensor:
    """Every fourth voxel of (..., X, Y, Z): every second along x and y, from the same random start for equal rng."""
    x, y = rng.integers(2), rng.integers(2)
    return values[..., int(x) :: 2, int(y) :: 2, :]


def class_weights(scans: Sequence[LabelledScan], power: float) -> Tensor:
    """Weight of each class in the cross entropy, (K,): rarity to `power`, 1 on average over voxels, at most 30."""
    counts = torch.zeros(len(CLASSES))
    for scan in scans:
        counts += torch.bincount(scan.classes[scan.classes != UNKNOWN].long(), minlength=len(CLASSES))
    share = counts.clamp(min=1) / counts.clamp(min=1).sum()
    weights = share**-power
    return (weights / (weights * share).sum()).clamp(max=30.0)


def segmentation_loss(logits: Tensor, classes: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross entropy + (1 - mean soft Dice) of logits (K, X, Y, Z) and classes (X, Y, Z) uint8; and the Dice (K,).

    weights (K,) are those of the classes in the cross entropy; None = 1. The Dice of a class that is not in view is
    NaN and does not count. Voxels of class 255 do not count.
    """
    known = classes != UNKNOWN
    found = rearrange(logits, "k x y z -> (x y z) k")[known.reshape(-1)].float()
    target = classes[known].long()
    entropy = F.cross_entropy(found, target, weights)
    shares = found.softmax(dim=1)
    truth = F.one_hot(target, shares.shape[1]).float()
    size = truth.sum(dim=0)
    dice = 2 * (shares * truth).sum(dim=0) / (shares.sum(dim=0) + size + 1.0)
    is_there = size > 0
    loss = entropy + 1 - dice[is_there].mean()
    return loss, torch.where(is_there, dice, torch.nan).detach()


def learning_rate(step: int, config: OrganTraining, warmup: int = 100) -> float:
    """Rate of step 0, 1, ...: linear warm-up, then half a cosine to 0."""
    if step < warmup:
        return config.peak_lr * (step + 1) / warmup
    share = (step - warmup) / max(1, config.steps - warmup)
    return config.peak_lr * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def train_organ_net(config: OrganTraining) -> Path:
    """Train (or go on training) and return the file of the averaged weights."""
    scans = [read_labelled(ct, organs) for ct, organs in zip(config.ct, config.organs, strict=True)]
    config.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    net = OrganNet()
    if config.init is not None:
        net.load_state_dict(load_organ_net(config.init).state_dict())
    weights = class_weights(scans, config.class_balance)
    net.class_weights.copy_(weights)
    optimizer = torch.optim.AdamW(net.parameters(), config.peak_lr, weight_decay=config.weight_decay)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    step = _resume(config, net, optimizer, average)
    with (config.out / "log.jsonl").open("a") as log:
        while step < config.steps:
            log.write(json.dumps(_take_step(config, (scans, weights), net, optimizer, step)) + "\n")
            step += 1
            _follow(average, net, min(0.998, step / (step + 10)))
            if step % config.checkpoint_every == 0 or step == config.steps:
                log.flush()
                _checkpoint(config, net, optimizer, average, step)
    final = config.out / "organ_net.safetensors"
    save_organ_net(average, final)
    return final


def _take_step(
    config: OrganTraining,
    data: tuple[Sequence[LabelledScan], Tensor],
    net: OrganNet,
    optimizer: torch.optim.Optimizer,
    step: int,
) -> dict[str, object]:
    """One tile forward and backward; what the log says of it."""
    began = time.perf_counter()
    scans, weights = data
    rng = np.random.default_rng((config.seed, step))
    shares = np.array(config.shares or [1.0] * len(scans))
    scan = scans[int(rng.choice(len(scans), p=shares / shares.sum()))]
    windows, classes = make_sample(scan, config.warp, rng)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(windows[None].contiguous(memory_format=torch.channels_last_3d))[0]
    start = int(rng.integers(1 << 30))
    loss, dice = segmentation_loss(
        thin_out(logits, np.random.default_rng(start)), thin_out(classes, np.random.default_rng(start)), weights
    )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    seen = {name: round(float(d), 3) for name, d in zip(CLASSES, dice, strict=True) if not torch.isnan(d)}
    return {"step": step, "loss": round(loss.item(), 4), "seconds": round(time.perf_counter() - began, 2), "dice": seen}


@torch.no_grad()
def _follow(average: dict[str, Tensor], net: OrganNet, keep: float) -> None:
    for name, value in net.state_dict().items():
        average[name].lerp_(value, 1 - keep)


def _checkpoint(
    config: OrganTraining, net: OrganNet, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], step: int
) -> None:
    """Write everything that a resumed run needs; a kill while writing leaves the checkpoint before."""
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
    partial = config.out / "checkpoint.partial"
    torch.save({**state, "config": json.dumps(asdict(config), default=str)}, partial)
    partial.replace(config.out / "checkpoint.pt")


def _resume(config: OrganTraining, net: OrganNet, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    """Load the checkpoint of --out if there is one; the step to go on with. Refuses one of other settings."""
    path = config.out / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if state["config"] != json.dumps(asdict(config), default=str):
        raise ConfigError(f"{path} was written with other settings. Use them again, or another --out.")
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    average.update(state["average"])
    return int(state["step"])
