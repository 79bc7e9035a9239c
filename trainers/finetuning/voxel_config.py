"""Everything a fine-tuning to segmentation depends on, and its presets."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from core.errors import ConfigError
from core.preprocess import Size3
from trainers.finetuning.shares import ShareConfig
from trainers.finetuning.voxel_studies import CropConfig
from trainers.loop import LoopConfig
from trainers.metrics.intervals import IntervalConfig
from trainers.metrics.overlap import Absent
from trainers.optim import OptimConfig
from trainers.run_log import LogConfig


@dataclass(frozen=True)
class SegmentationConfig:
    """One fine-tuning to segmentation; written beside its results as config.json."""

    out: Path
    """Folder of the run: lists, logs, checkpoints, metrics.json, predictions.csv, model.safetensors."""
    encoder: Path
    """Run of trainers.pretrain, model.safetensors, or published weights (.pth)."""
    list: Path
    """Decathlon JSON: labels, training, validation, testing."""
    root: Path | None = None
    """Where the paths of the list begin; the list's own folder without it."""
    preset: Literal["default", "released"] = "default"
    """Where crops, loop and validation start from; released: the published runs on LUNA16."""
    carve: bool = False
    """Let patients of the training list validate although the list has validation cases."""
    allow_val_is_test: bool = False
    """Allow patients to validate and test, as published lists do; results are then too good."""
    from_scratch: bool = False
    """Draw the encoder's weights anew, to compare with."""
    seeds: tuple[int, ...] = (0,)
    """One training each; the first one's model is kept as the run's."""
    share: ShareConfig = field(default_factory=ShareConfig)
    """How much of the training list is used, and who validates."""
    roi: Size3 = (96, 96, 48)
    """Voxels (x, y, z) that the model sees at a time; multiples of the encoder's patch."""
    channels: int = 16
    """Of the decoder's finest maps."""
    change_view: tuple[str, ...] = ()
    """Changes to how CTs are shown, such as window_hu=[-175,250]; it starts as in pre-training."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Which crops are trained on."""
    overlap: float = 0.5
    """Of neighbouring windows when a whole CT is segmented."""
    absent: Absent = "penalise"
    """Dice of a class that the truth lacks: 0 if it was found all the same (penalise), or left out (skip, published)"""
    validate_epochs: int = 5
    """Epochs between two validations, which segment every validation case whole."""
    cache: Path = Path("runs/features")
    """Where resampled CTs are kept for later runs."""
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    """Intervals of the metrics."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Steps, batches, precision, patience; seed and validate_every are set by the run."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds is {self.seeds}; expected one or more different numbers.")
        if self.validate_epochs < 1 or not 0 <= self.overlap < 1 or self.channels < 1:
            raise ConfigError("validate_epochs and channels must be at least 1, overlap lie in [0, 1).")


DEFAULT_LOOP = LoopConfig(
    batch_size=2,
    patience=10,
    checkpoint_every=200,
    log=LogConfig(every=20),
    optim=OptimConfig(
        steps=0, epochs=100, warmup_steps=0, warmup_share=0.05, peak_lr=2e-4, weight_decay=1e-2, betas=(0.9, 0.999)
    ),
)
RELEASED_LOOP = replace(
    DEFAULT_LOOP,
    batch_size=1,
    patience=20,
    precision="fp16",
    optim=OptimConfig(
        steps=0,
        epochs=1000,
        schedule="epoch_cosine",
        warmup_steps=0,
        warmup_epochs=100,
        peak_lr=1e-4,
        weight_decay=1e-5,
        decay_all=True,
        betas=(0.9, 0.999),
        clip_norm=0.0,
    ),
)


def preset_defaults(config: SegmentationConfig, preset: str) -> SegmentationConfig:
    """The config that the options start from."""
    if preset != "released":
        return replace(config, loop=DEFAULT_LOOP)
    crops = CropConfig(per_case=32)
    return replace(
        config, preset="released", loop=RELEASED_LOOP, crops=crops, overlap=0.75, absent="skip", validate_epochs=10
    )
