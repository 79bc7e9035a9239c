"""How well an engine's heat finds what sentences say: `python -m trainers.evaluate_grounding --cases LIST --out DIR`.

Cases are a CT with masks of findings and their sentences: a list or folders of NIfTI files, an annotation export, a
list like ReXGroundingCT's, or findings painted into a patient (docs/grounding_evaluation.md). Exit code 0: everything
was judged; 1: some was left out and is listed, the figures are of the rest; 2: nothing was judged.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from core.anatomy.engines import EnginePlaces, choose_segmenter
from core.errors import AsapError, ConfigError
from core.grounding.engine import GroundingEngine
from core.grounding.model_folder import open_folder
from core.grounding.readout import ReadoutConfig
from core.grounding.registry import choose_device, load_engine, weights_folder
from core.models.checkpoint import config_to_json
from core.synthesis.studies import StudyConfig
from trainers.grounding.cases import Case
from trainers.grounding.evaluation import Evaluation, OutputConfig, Segment, tell
from trainers.grounding.judging import JudgeConfig
from trainers.grounding.sources import ListConfig, collect_cases
from trainers.grounding.synthetic import SyntheticConfig, synthetic_cases
from trainers.metrics.intervals import IntervalConfig

ORGAN_NET = "models/organs/organ_net.safetensors"
"""Below the assets: what the embedded organ engine registers to."""
SOME_LEFT_OUT, NOTHING_JUDGED = 1, 2


@dataclass(frozen=True)
class EvaluationConfig:
    """What is judged, with which engine, and where the results go."""

    out: Path
    """Folder of the results; new, empty, or of an earlier evaluation, which is replaced."""
    cases: tuple[Path, ...] = ()
    """Lists (JSON, CSV), folders of cases, annotation exports, lists like ReXGroundingCT's."""
    ct_root: Path | None = None
    """CTs of an annotation export (a folder or one file) or of a list like ReXGroundingCT's."""
    mask_root: Path | None = None
    """Segmentations of a list like ReXGroundingCT's; None: the folder segmentations beside the list."""
    split: str = ""
    """Split of such a list; "" = all."""
    author: str = ""
    """Whose regions of an annotation export count; "" = everybody's, joined sentence by sentence."""
    synthetic: tuple[Path, ...] = ()
    """Patients (folders of trainers.patients) to paint findings into; none that a training study came from."""
    count: int = 40
    """Synthetic studies."""
    seed: int = 1000
    """Of the synthetic studies (another one than in training) and of the choice of false sentences."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """What a synthetic study holds."""
    engine: str = "bundled"
    """A name that `python -m asap_viewer engines` lists, or a model folder."""
    organs: Literal["embedded", "totalsegmentator", "none"] = "embedded"
    """Who segments CTs that bring no organ masks; none: nobody, and their heat is never kept to an organ."""
    tolerance_mm: float = 10.0
    """A peak this near to the finding, in millimetres, has found it."""
    threshold: float = 0.5
    """Heat that counts as the finding in dice_fixed."""
    together: bool = False
    """Read a case's true sentences as one report, contrasted with each other, as the page does; False: each alone, for
    several ways to say one finding must not be held against each other."""
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    """How scores become heat."""
    false_sentences: int = 4
    """Sentences asked of each case that are false of it, of other cases or made by the data engine."""
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    """Intervals of the figures; patients are drawn."""
    pictures: int = 12
    """Pictures of the worst sentences."""
    save_heat: bool = False
    """Also write each sentence's heat, and what it takes for the finding, on the grid of the CT's own file."""
    resume: bool = False
    """Go on with the unfinished evaluation in --out; settings, engine and program must be the same."""
    limit: int | None = None
    """Only the first so many cases."""
    threads: int = 1
    """Threads of torch."""
    assets: Path = Path("assets")
    """Where the bundled models lie."""
    models: Path = Path("models")
    """Where the folders of other engines lie."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        if not self.cases and not self.synthetic:
            raise ConfigError("There is nothing to judge; expected --cases with a list or folder, or --synthetic.")
        if min(self.count, self.threads, self.limit or 1) < 1 or min(self.false_sentences, self.pictures) < 0:
            raise ConfigError("count, threads and limit must be at least 1; false-sentences and pictures not negative.")

    @property
    def judge(self) -> JudgeConfig:
        """How heat is made and judged."""
        return JudgeConfig(self.tolerance_mm, self.threshold, self.together, self.readout)

    @property
    def lists(self) -> ListConfig:
        """Where cases on disk lie."""
        return ListConfig(self.ct_root, self.mask_root, self.split, self.author)

    @property
    def output(self) -> OutputConfig:
        """What is left behind."""
        return OutputConfig(self.out, self.pictures, self.save_heat, self.resume, self.interval)


def evaluate(config: EvaluationConfig) -> dict[str, Any]:
    """Judge everything and write the results; returns what stands in metrics.json. AsapError where nothing was judged.

    The inputs are read and the engine is opened before any work is done.
    """
    listed, problems = collect_cases(config.cases, config.lists, config.false_sentences, config.seed)
    for one in problems:
        tell(f"left out: {one.case} {one.sentence} {one.reason}")
    engine = open_engine(config)
    evaluation = Evaluation(engine, config.judge, config.output, _settings(config, engine), _segmenter(config))
    evaluation.run(_cases(config, listed), tell)
    facts = {"engine": engine.name, "config": json.loads(config_to_json(config)) | {"judge": _plain(config.judge)}}
    return evaluation.finish(problems, facts)


def _plain(config: object) -> Any:
    return json.loads(config_to_json(config))


def _cases(config: EvaluationConfig, listed: list[Case]) -> Iterable[Case]:
    made = SyntheticConfig(config.synthetic, config.count, config.seed, config.study)
    return islice(chain(listed, synthetic_cases(made, config.false_sentences)), config.limit)


def open_engine(config: EvaluationConfig) -> GroundingEngine:
    """The engine by its name, or from its model folder. EngineError, CheckpointError."""
    folder = Path(config.engine)
    if folder.is_dir():
        return open_folder(folder, choose_device(config.device), folder.resolve().name)
    return load_engine(config.engine, config.assets, config.models, config.device)


def _segmenter(config: EvaluationConfig) -> Segment | None:
    if config.organs == "none":
        return None
    places = EnginePlaces(config.assets / ORGAN_NET, device="cuda" if choose_device(config.device) == "cuda" else "cpu")
    return choose_segmenter(config.organs, places).segment


def _settings(config: EvaluationConfig, engine: GroundingEngine) -> str:
    """Everything that a case's results depend on beside the case: settings and the engine's files."""
    folder = Path(config.engine)
    folder = folder if folder.is_dir() else weights_folder(engine.name, config.assets, config.models)
    files = sorted(path for path in folder.glob("*") if path.is_file())
    stamps = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    plain = replace(config, out=Path(), interval=IntervalConfig(), resume=False, limit=None, pictures=0, threads=1)
    return json.dumps([_plain(plain), stamps])


def main(config: EvaluationConfig) -> int:
    """Judge, write, print one JSON document; the exit code says whether everything was judged."""
    torch.set_num_threads(config.threads)
    try:
        told = evaluate(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        return NOTHING_JUDGED
    answer = {"out": str(config.out), **told["counts"], "left_out": len(told["left_out"])}
    for way in ("raw", "constrained"):
        answer[f"pointing_{way}"] = told["overall"][way]["pointing"]["value"]
    sys.stdout.write(json.dumps(answer) + "\n")
    return SOME_LEFT_OUT if told["left_out"] else 0


def run(arguments: list[str] | None = None) -> int:
    """`main` from the words of a command line."""
    try:
        config = tyro.cli(EvaluationConfig, args=arguments, description=__doc__)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        return NOTHING_JUDGED
    return main(config)


if __name__ == "__main__":
    sys.exit(run())
