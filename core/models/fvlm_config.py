"""Every size and switch of fVLM, and its named presets."""

from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import ConfigError
from core.models.abnormal_pairs import AbnormalPairs
from core.models.bert import BertConfig
from core.models.contrast import GatherMode, TargetRule, TemperatureConfig
from core.models.level_vit import LevelVisionConfig
from core.models.vit import require_divides

CXR_BERT = BertConfig(token_types=False)
"""CXR-BERT as fVLM runs it: no token-type embedding is added (spec 4.2)."""


@dataclass(frozen=True)
class FVLMConfig:
    """The whole model; defaults are the published sizes, with gradients through all processes."""

    organs: tuple[str, ...] = ("lung", "heart", "esophagus", "aorta")
    """Names of the organs 1, 2, ... of the masks."""
    vision: LevelVisionConfig = field(default_factory=LevelVisionConfig)
    """Volume encoder."""
    text: BertConfig = CXR_BERT
    """Text encoder, all of it trained; what is read is its first token."""
    embed: int = 256
    """Width of the space that organs and texts share (E)."""
    pool_heads: int = 4
    """Heads of the query attention."""
    pool_dropout: float = 0.1
    """Dropout on the query attention's weights."""
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    """Of the contrast."""
    normal_targets: bool = True
    """Normal organs of different studies are positives of each other; False = only equal texts."""
    duplicate_targets: bool = True
    """Studies with equal texts are positives of each other."""
    abnormal: AbnormalPairs = field(default_factory=AbnormalPairs)
    """The same for abnormal organs whose texts differ."""
    states: Literal["impression", "file"] = "impression"
    """Which organs are abnormal: those that the impression mentions, as released, or what organ_state.json says."""
    gather: GatherMode = "full_grad"
    """How samples of other processes take part. released: local_grad, by which W processes have 1/W of the gradient of
    everything but the temperature; AdamW hardly notices."""
    texts_once: bool = True
    """Read equal texts of a batch once; the same maths, but they share dropout's noise."""

    def __post_init__(self) -> None:
        require_divides(self.pool_heads, self.vision.width)
        if not self.organs or len(set(self.organs)) < len(self.organs):
            raise ConfigError(f"organs is {self.organs}; expected at least one name, each once.")
        if self.embed < 1 or not 0 <= self.pool_dropout < 1:
            raise ConfigError(f"embed is {self.embed}, pool_dropout {self.pool_dropout}; expected >= 1 and [0, 1).")

    @property
    def targets(self) -> TargetRule:
        """Which samples beside the pair itself are positives."""
        return TargetRule(self.normal_targets, self.duplicate_targets)


def released() -> FVLMConfig:
    """The published code; its weights load."""
    return FVLMConfig(gather="local_grad", texts_once=False)


def paper() -> FVLMConfig:
    """With the co-teaching that the paper describes and the published code lacks.

    The ramp is two epochs of 430 steps (CT-RATE, 56 studies a step) of each of the two models, which train in turn.
    """
    return replace(released(), abnormal=AbnormalPairs("coteach", ramp_steps=2 * 2 * 430, same_encoders=True))


def tiny(vocab_size: int) -> FVLMConfig:
    """A few seconds of CPU training: 32x32x16 voxels, 64 patches, width 48, depth 2, no dropout."""
    return FVLMConfig(
        vision=LevelVisionConfig(
            (32, 32, 16), (8, 8, 4), width=48, depth=2, heads=4, mlp_width=96, dropout=0.0, levels=(1,)
        ),
        text=BertConfig(
            vocab_size, width=48, depth=2, heads=4, mlp_width=96, positions=128, dropout=0.0, attention_dropout=0.0
        ),
        embed=32,
        pool_dropout=0.0,
    )
