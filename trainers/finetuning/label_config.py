"""Everything a fine-tuning to classification depends on, and its presets."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from core.errors import ConfigError
from core.models.classifier import RELEASED_HEAD, HeadConfig
from trainers.finetuning.shares import ShareConfig
from trainers.loop import LoopConfig
from trainers.metrics.intervals import IntervalConfig
from trainers.optim import OptimConfig
from trainers.run_log import LogConfig

Mode = Literal["probe", "full"]


@dataclass(frozen=True)
class ClassificationConfig:
    """One fine-tuning to classification; written beside its results as config.json."""

    out: Path
    """Folder of the run: lists, logs, checkpoints, metrics.json, predictions.csv, model.safetensors."""
    encoder: Path
    """Run of trainers.pretrain, model.safetensors, or published weights (.pth)."""
    train: Path
    """CSV: header, file id, then label columns of 0 and 1 (or one class column with --exclusive)."""
    volumes: Path
    """Root of the CTs, NIfTI at any depth, or a store of trainers.prepare."""
    test: Path | None = None
    """CSV of the studies that are measured at the end; they choose nothing."""
    val: Path | None = None
    """CSV of the studies that choose when to stop; without it patients of the training list do."""
    mode: Mode = "probe"
    """probe: the encoder is frozen and its features are kept. full: everything is trained."""
    preset: Literal["default", "released"] = "default"
    """Where head and loop start from; released: the published linear probe."""
    exclusive: bool = False
    """One column names each study's only class (cross-entropy), instead of labels of 0 and 1."""
    columns: tuple[str, ...] = ()
    """Label columns that are used; none = all."""
    allow_equal_columns: bool = False
    """Allow two label columns that are equal."""
    allow_val_is_test: bool = False
    """Allow patients to validate and test, as published lists do; results are then too good."""
    from_scratch: bool = False
    """Draw the encoder's weights anew, to compare with."""
    seeds: tuple[int, ...] = (0,)
    """One training each; the first one's model is kept as the run's."""
    share: ShareConfig = field(default_factory=ShareConfig)
    """How much of the training list is used, and who validates."""
    change_view: tuple[str, ...] = ()
    """Changes to how CTs are shown, such as window_hu=[-100,500]; it starts as in pre-training."""
    shift: int = 8
    """Voxels that the box is moved by at most, anew each epoch; full only."""
    validate_epochs: int = 1
    """Epochs between two validations."""
    cache: Path = Path("runs/features")
    """Where features and resampled CTs are kept for later runs."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Pooling, norm, first weights."""
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    """Intervals of the metrics."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Steps, batches, precision, patience; seed and validate_every are set by the run."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds is {self.seeds}; expected one or more different numbers.")
        if self.validate_epochs < 1 or self.shift < 0:
            raise ConfigError("validate_epochs must be at least 1, shift not negative.")
        if self.mode == "full" and self.head.norm == "standard":
            raise ConfigError(
                "head.norm=standard is for the features of a frozen encoder; with --mode full use layer or none."
            )
        if self.exclusive and len(self.columns) > 1:
            raise ConfigError(f"With --exclusive one column names the class, got {', '.join(self.columns)}.")


def _loop(batch: int, patience: int, optim: OptimConfig) -> LoopConfig:
    return LoopConfig(batch_size=batch, patience=patience, checkpoint_every=500, log=LogConfig(every=50), optim=optim)


_ADAM = OptimConfig(steps=0, epochs=1, warmup_steps=0, betas=(0.9, 0.999))
FULL_HEAD = HeadConfig(norm="layer", init_std=0.01)
PROBE_LOOP = _loop(64, 10, replace(_ADAM, epochs=100, warmup_share=0.05, peak_lr=3e-3, weight_decay=1e-2))
FULL_LOOP = _loop(4, 5, replace(_ADAM, epochs=20, warmup_share=0.1, peak_lr=1e-4, weight_decay=0.05))
RELEASED_LOOPS = {
    0.01: _loop(32, 10, replace(_ADAM, steps=6000, warmup_steps=150, peak_lr=1.5e-3, weight_decay=1e-2)),
    0.1: _loop(64, 10, replace(_ADAM, steps=30000, warmup_steps=750, peak_lr=3e-3, weight_decay=1e-2)),
    1.0: _loop(128, 10, replace(_ADAM, steps=100000, warmup_steps=1800, peak_lr=5e-3, weight_decay=1e-5)),
}
"""Of the published CT-RATE runs, by share of the training list; other data sets' numbers are in docs/finetuning.md."""


def preset_defaults(config: ClassificationConfig, mode: str, preset: str, fraction: float) -> ClassificationConfig:
    """The config that the options start from."""
    if preset != "released":
        if mode == "full":
            return replace(config, mode="full", head=FULL_HEAD, loop=FULL_LOOP)
        return replace(config, loop=PROBE_LOOP)
    if mode == "full":
        raise ConfigError("The published code has no full fine-tuning to classification; use --preset default.")
    nearest = min(RELEASED_LOOPS, key=lambda share: abs(share - fraction))
    return replace(config, preset="released", head=RELEASED_HEAD, loop=RELEASED_LOOPS[nearest])
