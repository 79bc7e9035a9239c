"""The training loop, one for every recipe."""

import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from core.errors import ConfigError
from core.models.checkpoint import load_strictly, read_weights
from trainers.batch import Batch, check_batch
from trainers.batches import AnnouncedStudies, Studies, naming_dead_readers, stream_batches
from trainers.early_steps import EarlySteps, settle_early
from trainers.optim import OptimConfig, Schedule, build_adamw, plan_schedule
from trainers.resume import Progress, latest_checkpoint, load_training, load_weights, save_checkpoint, write_weights
from trainers.run_log import LogConfig, RunLog
from trainers.sharding import (
    Precision,
    Sharding,
    bare,
    clip_gradients,
    compile_blocks,
    finish_gradients,
    gather_weights,
    open_accelerator,
    place_model,
    unsynchronised,
)
from trainers.stage import Stage, enter_stage, total_loss
from trainers.validation import EpochStart, Watch, mean_over_processes, picture_heat, to_device, validate

BEST = "best.safetensors"


@dataclass(frozen=True)
class LoopConfig:
    """How a run steps, writes and where it computes."""

    batch_size: int = 4
    """Studies per process and micro-step."""
    accumulate: int = 1
    """Micro-steps whose gradients make one optimiser step."""
    precision: Precision = "no"
    """Autocast type; weights stay float32. bf16 works on every CPU, but crawls on those that do not multiply it: "auto"
    takes it where it is fast."""
    sharding: Sharding = "ddp"
    """With several processes: each holds the whole model, or a shard of its weights and moments (fsdp)."""
    compile: bool = False
    """Compile the model's blocks; pays off on GPUs and long runs."""
    seed: int = 0
    """Of weights, order of studies, masks and dropout."""
    workers: int = 0
    """Processes that read studies ahead; 0 = read in the training process."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    validate_every: int = 500
    """Steps between two validations, when there are studies to validate on."""
    patience: int = 0
    """Validations without a better total after which a run ends and the best weights are taken; 0 = never."""
    step_early: bool = True
    """Step each weight as soon as its gradient is known, and forget the gradient, where nothing looks at all gradients
    at once: without clipping, accumulation, several processes and fp16. Saves the memory of the gradients."""
    cpu: bool = False
    """Stay on the CPU where a GPU exists."""
    log: LogConfig = field(default_factory=LogConfig)
    """What the run tells."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and schedule."""

    def __post_init__(self) -> None:
        counts = (self.batch_size, self.accumulate, self.checkpoint_every, self.validate_every)
        if min(counts) < 1 or min(self.workers, self.patience) < 0:
            raise ConfigError(
                "batch_size, accumulate, checkpoint_every, validate_every must be at least 1; workers, patience 0."
            )


class Run(NamedTuple):
    """A run that is about to take its next step."""

    accelerator: Accelerator
    model: nn.Module
    plain: nn.Module  # of the model's structure, never in shards
    optimizer: Optimizer
    schedule: Schedule
    stage: Stage
    log: RunLog
    start: int  # steps that are done
    progress: Progress
    early: EarlySteps | None  # steps weights within the backward pass, where that is possible


def train(
    model: nn.Module,
    studies: Studies,
    config: LoopConfig,
    out_dir: Path,
    stage: Stage | None = None,
    watch: Watch | None = None,
) -> nn.Module:
    """Train one stage of `model` and return it; continues from the newest checkpoint in `out_dir`.

    On one CPU the result does not depend on how often the run was stopped and continued.
    """
    run = begin(model, studies, config, out_dir, stage or Stage())
    first, rank_of = run.start * config.accumulate, (run.accelerator.process_index, run.accelerator.num_processes)
    watch = watch or Watch()
    drawn = studies
    if watch.before_epoch is not None:
        drawn = AnnouncedStudies(studies, partial(_announce, run, studies, config.batch_size, watch.before_epoch))
    batches = stream_batches(drawn, config.batch_size, config.seed, first, rank_of, config.workers)
    try:
        with naming_dead_readers(config.workers):
            _take_steps(run, batches, studies, config, watch)
    finally:
        if run.early is not None:
            run.early.detach()
            settle_early(bare(run.model), False)
    run.log.close()
    return finish(run, config, out_dir)


def _take_steps(run: Run, batches: Iterator[Batch], studies: Studies, config: LoopConfig, watch: Watch) -> None:
    """Step, tell, look and keep until the schedule or the patience ends."""
    out_dir = run.log.out_dir
    run.model.train()
    for step in range(run.start + 1, run.schedule.steps + 1):
        if is_exhausted(run.progress, config.patience):
            break
        rate = run.schedule.lr(step - 1)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        losses = accumulate_gradients(run, batches, config.accumulate, step)
        norm = apply_gradients(run, config.optim.clip_norm)
        run.log.count_step(step, norm, run.accelerator.scaler is not None)
        if run.log.is_due(step):
            run.log.write_step(step, mean_over_processes(run.accelerator, losses), norm, rate)
        is_last = step == run.schedule.steps
        if step % config.validate_every == 0 or is_last:
            look(run, studies, watch, step, config.batch_size)
        if step % config.checkpoint_every == 0 or is_last or is_exhausted(run.progress, config.patience):
            save_checkpoint(out_dir, step, run.accelerator, run.model, run.optimizer, run.progress)


def _announce(run: Run, studies: Studies, batch_size: int, tell: Callable[[EpochStart], None], epoch: int) -> None:
    tell(EpochStart(run.accelerator, run.model, studies, run.log.out_dir, epoch, batch_size))


def begin(model: nn.Module, studies: Studies, config: LoopConfig, out_dir: Path, stage: Stage) -> Run:
    """Place model and optimiser, and put everything where the newest checkpoint, if there is one, left it."""
    newest = latest_checkpoint(out_dir)
    accelerator = open_accelerator(config.precision, config.sharding, config.cpu)
    enter_stage(model, stage)
    if newest:
        load_weights(newest, model)
    plain = copy.deepcopy(model) if config.sharding == "fsdp" else model
    if config.compile:
        compile_blocks(model)
    placed = place_model(model, accelerator, config.sharding)
    optimizer = accelerator.prepare(build_adamw(placed, config.optim))
    seed = config.seed + accelerator.process_index
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    start, progress = load_training(newest, accelerator, placed, optimizer) if newest else (0, {})
    schedule = schedule_of(config, studies, stage, accelerator.num_processes)
    per_step = config.batch_size * config.accumulate * accelerator.num_processes
    log = RunLog(out_dir, (start, schedule.steps), config.log, per_step, accelerator.process_index)
    early = EarlySteps(optimizer) if _may_step_early(config, accelerator) else None
    settle_early(bare(placed), early is not None and accelerator.mixed_precision == "no" and not stage.losses)
    return Run(accelerator, placed, plain, optimizer, schedule, stage, log, start, progress, early)


def _may_step_early(config: LoopConfig, accelerator: Accelerator) -> bool:
    """Whether no part of a step needs all gradients at once."""
    is_alone = accelerator.num_processes == 1 and accelerator.scaler is None
    return config.step_early and is_alone and config.accumulate == 1 and config.optim.clip_norm == 0


def schedule_of(config: LoopConfig, studies: Studies, stage: Stage, processes: int = 1) -> Schedule:
    """The schedule of one stage over a training set."""
    optim = config.optim
    longer = replace(optim, epochs=optim.epochs * stage.length, steps=round(optim.steps * stage.length))
    return plan_schedule(longer, len(studies) / (config.batch_size * config.accumulate * processes))


def accumulate_gradients(run: Run, batches: Iterator[Batch], micro_steps: int, step: int) -> dict[str, Tensor]:
    """Add up the gradients of the next micro-steps, synchronised at the last; mean losses of this process."""
    accelerator, model, stage = run.accelerator, run.model, run.stage
    means: dict[str, Tensor] = {}
    for micro in range(micro_steps):
        batch = next(batches)
        check_batch(batch, stage.requires)
        run.log.write_troubles(step, [str(trouble) for trouble in batch["trouble"]])
        run.log.write_notes(step, [str(note) for note in batch["note"]])
        tensors = to_device(batch, accelerator.device)
        with unsynchronised(model, accelerator, micro + 1 < micro_steps):
            with accelerator.autocast():
                losses = dict(model(tensors))
            losses["total"] = total_loss(losses, stage)
            accelerator.backward(losses["total"] / micro_steps)
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach() / micro_steps
    return means


def apply_gradients(run: Run, clip_norm: float) -> float:
    """One optimiser step, skipped when the gradient is not finite or zero; returns its norm before clipping.

    A model with slow copies or roles of its own moves them in `after_step`, which is called after every step taken.
    """
    if run.early is not None:
        norm = run.early.finish()
    else:
        finish_gradients(run.model, run.accelerator)
        norm = clip_gradients(run.model, clip_norm if clip_norm > 0 else math.inf)
    is_told = math.isfinite(norm) and norm > 0  # without a gradient, decay and momentum would still move the weights
    if is_told or run.accelerator.scaler is not None:  # a scaler skips by itself and must see the step
        if run.early is None:
            run.optimizer.step()
        after_step = getattr(bare(run.model), "after_step", None)
        if after_step is not None:
            after_step()
    run.optimizer.zero_grad(set_to_none=True)
    return norm


def look(run: Run, studies: Studies, watch: Watch, step: int, batch_size: int) -> None:
    """Validate, remember the best weights so far, and draw where sentences are found."""
    progress = run.progress
    losses = measure(run, watch, batch_size)
    if losses:
        run.log.write_validation(step, losses)
        is_better = losses["total"] < progress.get("best", math.inf)
        progress["waited"] = 0 if is_better else progress.get("waited", 0) + 1
        if is_better:
            progress["best"] = losses["total"]
            weights = gather_weights(run.model)
            if run.accelerator.is_main_process:
                write_weights(run.log.out_dir / BEST, weights)
    if watch.heat is not None and run.log.config.tensorboard:
        picture = picture_heat(run.accelerator, run.model, watch.studies or studies, watch.heat)
        run.log.write_picture(step, "heat of the first sentences", picture)


def measure(run: Run, watch: Watch, batch_size: int) -> dict[str, float]:
    """What validation says, the lower "total" the better; empty where nobody validates."""
    if watch.measure is not None:
        return watch.measure(run.accelerator, run.model)
    if watch.studies is None:
        return {}
    return validate(run.accelerator, run.model, watch.studies, batch_size, run.stage)


def is_exhausted(progress: Progress, patience: int) -> bool:
    """Whether validation has not become better for as long as the run has patience."""
    return patience > 0 and progress.get("waited", 0) >= patience


def finish(run: Run, config: LoopConfig, out_dir: Path) -> nn.Module:
    """The trained model without its wrapper, whole on every process; with patience, at its best."""
    if isinstance(run.model, FSDPModule):
        plain = run.plain
        plain.load_state_dict(gather_weights(run.model))
    else:
        plain = run.accelerator.unwrap_model(run.model)
    if config.patience and (out_dir / BEST).is_file():
        load_strictly(plain, read_weights(out_dir / BEST)[0], BEST)
    return plain.eval()
