"""Make a run a model folder that engines open: `python -m trainers.bundle --run runs/x --out models/x`.

Takes the final model or, while the run goes on, its newest checkpoint. Weights are written in half precision. Settings
and losses of the run go with them, so that the folder tells how it was made.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from core.errors import AsapError, CheckpointError
from core.grounding.asap_engine import EngineSpec
from core.grounding.calibration import Calibration
from core.grounding.two_scale_engine import needed_parts
from core.grounding.view import ViewConfig
from core.models.asap_config import ASAPConfig
from core.models.asap_file import save_asap
from core.models.checkpoint import config_from_json, config_to_json, import_weights, read_weights, write_atomically
from core.models.pyramid import CELL
from core.models.tokens import ReportTokenizer
from core.models.two_scale import build_asap
from trainers.resume import WEIGHTS, latest_checkpoint
from trainers.run_files import CONFIG, MODEL, TOKENIZER
from trainers.run_log import LOG

ENGINE_FILE, SETTINGS = "engine.json", "run.json"
UNMEASURED = Calibration(0.0, 0.0, 0.0)
"""Until `trainers.calibrate` has measured how often it is wrong, the engine "cannot tell"; its chance is 0.5."""


@dataclass(frozen=True)
class BundleConfig:
    """Which run becomes which model folder."""

    run: Path
    """Folder of a run of trainers.pretrain."""
    out: Path
    """Model folder to write: model.safetensors, tokenizer.json, engine.json, run.json, log.jsonl."""
    name: str = "bundled"
    """How the engine is chosen."""
    subdivisions: int = 2
    """Times the box is read per axis at inference; 2 halves the cell size for eight times the work."""


def bundle(config: BundleConfig) -> Path:
    """Write the model folder; returns it. Raises CheckpointError for a run without weights."""
    told = _read_run(config.run)
    if told["run"]["recipe"] != "asap":
        raise CheckpointError(
            f"{config.run} is a run of {told['run']['recipe']}; only runs of asap are bundled. Others "
            "are engines as they are: put the run's model.safetensors into models/NAME."
        )
    model_config = config_from_json(ASAPConfig, json.dumps(told["model"]))
    model = build_asap(model_config)
    source = _weights_of(config.run)
    import_weights(model, read_weights(source)[0], needed_parts(model_config))
    facts = {"source": f"{config.run.name}/{source.relative_to(config.run)}", "recipe": told["run"]["recipe"]}
    tokenizer = ReportTokenizer.from_file(config.run / TOKENIZER)
    save_asap(config.out / "model.safetensors", model, tokenizer, facts, torch.float16)
    shutil.copyfile(config.run / TOKENIZER, config.out / "tokenizer.json")
    write_atomically(config.out / SETTINGS, json.dumps(_without_folders(told), indent=1).encode() + b"\n")
    if (config.run / LOG).is_file():
        shutil.copyfile(config.run / LOG, config.out / LOG)
    spec = EngineSpec(config.name, _view_of(told["run"], model_config, config.subdivisions), UNMEASURED)
    write_atomically(config.out / ENGINE_FILE, json.dumps(json.loads(config_to_json(spec)), indent=1).encode() + b"\n")
    return config.out


def _without_folders(told: Any) -> Any:
    """Settings in which absolute paths are their last names: where a run lay is nobody's business."""
    if isinstance(told, dict):
        return {name: _without_folders(value) for name, value in told.items()}
    if isinstance(told, list):
        return [_without_folders(value) for value in told]
    return Path(told).name if isinstance(told, str) and Path(told).is_absolute() else told


def _read_run(run: Path) -> dict:
    path = run / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{run} holds no {CONFIG}; expected a run of trainers.pretrain.")
    return json.loads(path.read_text())


def _weights_of(run: Path) -> Path:
    """The final model, or the newest checkpoint of a run that goes on."""
    if (run / MODEL).is_file():
        return run / MODEL
    newest = latest_checkpoint(run)
    if newest is None:
        raise CheckpointError(f"{run} holds neither {MODEL} nor a checkpoint yet; wait for its first one.")
    return newest / WEIGHTS


def _view_of(run: dict, model: ASAPConfig, subdivisions: int) -> ViewConfig:
    """How the engine must show a CT: exactly as in training."""
    told = {"image_size": model.vision.image_size, "patch_size": model.vision.patch_size, "subdivisions": subdivisions}
    if model.pyramid is not None:  # its cells are read, once
        told |= {"patch_size": (CELL,) * 3, "subdivisions": 1}
    if run["data"] == "synthetic":
        told |= {"spacing_mm": [run["synthetic"]["study"]["view"]["spacing_mm"]] * 3}
        told |= {"hu_range": run["synthetic"]["window_hu"]}
    else:
        view = run["view"]
        told |= {"spacing_mm": view["spacing_mm"], "hu_range": view["window_hu"], "shown_as": view["shown_as"]}
        told |= {"smooth": view["resample"] == "smooth", "clip_late": view["clip_late"], "padding": view["padding"]}
    return config_from_json(ViewConfig, json.dumps(told))


def main(config: BundleConfig) -> None:
    """Write the folder and its size."""
    try:
        out = bundle(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    size = sum(file.stat().st_size for file in out.iterdir())
    sys.stdout.write(json.dumps({"model": str(out), "megabytes": round(size / 1e6, 2)}) + "\n")


if __name__ == "__main__":
    main(tyro.cli(BundleConfig))
