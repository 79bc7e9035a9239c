"""What a run tells: log.jsonl, a progress bar, TensorBoard if asked, and the studies that could not be used."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from core.errors import CheckpointError, ConfigError, StudyError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG, BAD_STUDIES, NOTES, EVENTS = "log.jsonl", "bad_studies.jsonl", "notes.jsonl", "tensorboard"
MOST_SAID = 3
"""Notes that are told on the spot; more are only written down."""
MOST_SKIPPED = 5
"""Steps in a row with a gradient that is not finite before the run is given up."""
MOST_SCALED = 30
"""The same in fp16, where a scaler begins too high and finds its scale by skipping steps."""


@dataclass(frozen=True)
class LogConfig:
    """How often and where a run tells how it goes."""

    every: int = 10
    """Steps between two entries."""
    tensorboard: bool = False
    """Also write TensorBoard events into the run's folder; needs requirements-train.txt."""
    most_bad_studies: int = 20
    """Different studies that may be left out because they cannot be used; 0 = the first one ends the run."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.most_bad_studies < 0:
            raise ConfigError("log.every must be at least 1, log.most_bad_studies not negative.")


class RunLog:
    """Writes what happens in a run; all but the list of bad studies is left to the main process."""

    def __init__(
        self, out_dir: Path, span: tuple[int, int], config: LogConfig, studies_per_step: int, rank: int
    ) -> None:
        """span: the step this process begins with, and the last of the run."""
        self.out_dir, self.config, self.studies_per_step, self.is_main = out_dir, config, studies_per_step, rank == 0
        (self.start, self.steps), self.began, self.skipped = span, time.monotonic(), 0
        self.bad: dict[str, str] = {}
        self.noted: set[str] = set()
        self.events: SummaryWriter | None = None
        self.bar: Any = None
        if self.is_main:
            out_dir.mkdir(parents=True, exist_ok=True)
            _forget_after(out_dir / LOG, self.start)
            self.events = _open_events(out_dir / EVENTS, self.start) if config.tensorboard else None
            if sys.stderr.isatty():
                self.bar = tqdm(total=self.steps, initial=self.start, unit="step", dynamic_ncols=True)

    def count_step(self, step: int, norm: float, is_scaled: bool) -> None:
        """Count a finished step; give up after many without a finite gradient."""
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        if self.skipped > (MOST_SCALED if is_scaled else MOST_SKIPPED):
            raise ConfigError(
                f"The gradient was not finite in {self.skipped} steps in a row up to step {step}; no weight was "
                "changed by them. Lower peak_lr, use bf16 instead of fp16, or look for broken numbers in the data."
            )
        if self.bar is not None:
            self.bar.update()

    def is_due(self, step: int) -> bool:
        """Whether this step gets an entry."""
        return step % self.config.every == 0 or step == self.steps

    def write_step(self, step: int, losses: Mapping[str, float], norm: float, lr: float) -> None:
        """One entry: losses, speed, and how long the rest will take."""
        if not self.is_main:
            return
        per_step = (time.monotonic() - self.began) / max(1, step - self.start)
        speed, left = self.studies_per_step / per_step, per_step * (self.steps - step) / 60
        entry: dict[str, Any] = {"step": step, "lr": lr, "gradient_norm": norm, "skipped": self.skipped > 0}
        self._append(
            LOG, entry | {"losses": dict(losses), "studies_per_s": round(speed, 3), "bad_studies": len(self.bad)}
        )
        self._draw_scalars("train", step, {**losses, "lr": lr, "gradient_norm": norm, "studies_per_s": speed})
        parts = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        if self.bar is not None:
            self.bar.set_postfix_str(f"{parts}  {speed:.2f} studies/s")
        else:
            sys.stderr.write(f"step {step}/{self.steps}  {parts}  {speed:.2f} studies/s  {left:.1f} min left\n")

    def write_validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Mean losses over the studies that are not trained on."""
        if not self.is_main:
            return
        self._append(LOG, {"step": step, "validation": dict(losses)})
        self._draw_scalars("validation", step, losses)
        self._say(f"step {step}/{self.steps}  validation {losses['total']:.4f}")

    def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """A picture (rows, columns, 3) uint8 for TensorBoard."""
        if self.events is not None:
            self.events.add_image(name, picture, step, dataformats="HWC")

    def write_troubles(self, step: int, troubles: Sequence[str]) -> None:
        """Note studies that were replaced, each once; end the run when there are too many."""
        new = [line for trouble in troubles for line in trouble.splitlines() if line and line not in self.bad]
        for line in new:
            self.bad[line] = line
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self._append(BAD_STUDIES, {"step": step, "trouble": line})
            self._say(f"left out: {line}")
        if len(self.bad) > self.config.most_bad_studies:
            raise StudyError(
                f"{len(self.bad)} studies cannot be used, more than --loop.log.most-bad-studies "
                f"{self.config.most_bad_studies}; they are listed in {self.out_dir / BAD_STUDIES}. The last: {new[-1]}"
            )

    def write_notes(self, step: int, notes: Sequence[str]) -> None:
        """Write down what is odd about studies that are used, each note once, and tell the first few."""
        for note in dict.fromkeys(notes):
            if not note or note in self.noted:
                continue
            self.noted.add(note)
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self._append(NOTES, {"step": step, "note": note})
            if len(self.noted) <= MOST_SAID:
                more = f" Others like it: {self.out_dir / NOTES}." if len(self.noted) == MOST_SAID else ""
                self._say(f"note: {note}{more}")

    def close(self) -> None:
        """Finish the bar and the events."""
        if self.bar is not None:
            self.bar.close()
        if self.events is not None:
            self.events.close()

    def _say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")

    def _append(self, name: str, entry: Mapping[str, Any]) -> None:
        try:
            with (self.out_dir / name).open("a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"{self.out_dir / name} could not be written ({error}). Free some space and run the same command again."
            ) from error

    def _draw_scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        if self.events is not None:
            for name, value in values.items():
                self.events.add_scalar(f"{group}/{name}", value, step)


def _open_events(folder: Path, start: int) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("--loop.log.tensorboard needs TensorBoard: pip install -r requirements-train.txt.") from error
    return SummaryWriter(str(folder), purge_step=start + 1)


def _forget_after(path: Path, step: int) -> None:
    """Drop log lines of steps that a continued run will do again, and damaged ones: no step depends on the log."""
    if path.is_file():
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if line.endswith("\n") and _step_of(line) <= step))


def _step_of(line: str) -> float:
    """The step of a log line; infinite for one that is damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
