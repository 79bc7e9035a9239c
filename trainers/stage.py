"""One stage of a training: what it reads, what it freezes, which losses count."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from core.errors import ConfigError
from trainers.batch import ASAP_REQUIRES


@dataclass(frozen=True)
class Stage:
    """Stages run one after the other; each begins with the weights that the one before ended with."""

    name: str = "train"
    """Its folder in the run, and what `set_stage` of a model with several stages is called with."""
    requires: tuple[str, ...] = tuple(ASAP_REQUIRES)
    """Fields of the batch it reads."""
    length: float = 1.0
    """How long it runs, in multiples of the run's steps or epochs."""
    freeze: tuple[str, ...] = ()
    """Beginnings of the names of weights that do not change."""
    init_from: str = ""
    """Earlier stage whose last weights it begins with; "" = the one before."""
    losses: tuple[str, ...] = ()
    """Losses whose sum is minimised; none = the model's own "total"."""

    def __post_init__(self) -> None:
        if not self.name or self.length <= 0:
            raise ConfigError("A stage needs a name and a length above 0.")


def trainable_names(model: nn.Module) -> frozenset[str]:
    """Names of the weights that train."""
    return frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def leave_stage(model: nn.Module, trainable: frozenset[str]) -> None:
    """Let exactly the weights of these names train again, and drop what a model keeps for its stage only."""
    end_stage = getattr(model, "end_stage", None)
    if end_stage is not None:
        end_stage()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)


def enter_stage(model: nn.Module, stage: Stage) -> None:
    """Tell the model its stage, where it knows stages, and freeze what the stage freezes."""
    set_stage = getattr(model, "set_stage", None)
    if set_stage is not None:
        set_stage(stage.name)
    for start in stage.freeze:
        named = [parameter for name, parameter in model.named_parameters() if name.startswith(start)]
        if not named:
            raise ConfigError(f"Stage {stage.name} freezes {start!r}, but the model has no weight of that name.")
        for parameter in named:
            parameter.requires_grad_(False)


def total_loss(losses: Mapping[str, Tensor], stage: Stage) -> Tensor:
    """What the stage minimises, a scalar."""
    if not stage.losses:
        return losses["total"]
    return sum((losses[name] for name in stage.losses[1:]), losses[stage.losses[0]])
