"""What each command of `python -m trainers.builders` takes, refused early where it makes no sense."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from core.errors import ConfigError
from trainers.builders.files import DISTILLED, ORGAN_STATE, ORGAN_TEXT, TRIPLETS
from trainers.builders.local_model import DeviceName
from trainers.builders.products import Kind
from trainers.builders.rules import StateRule

BackendName = Literal["rules", "transformers", "openai"]


@dataclass(frozen=True, kw_only=True)
class ReportsJob:
    """What all builders take."""

    reports: Path
    """Table of reports: study_id,findings[,impression]."""
    out: Path
    """File to write. It appears when all is done; until then a hidden journal beside it keeps what is finished."""
    backend: BackendName = "rules"
    """rules: the report parser. transformers: a model from a folder. openai: a server; reports are sent there."""
    workers: int = os.cpu_count() or 1
    """rules: processes."""
    model: str = ""
    """transformers: folder of a causal language model. openai: the model's name at the server."""
    device: DeviceName = "auto"
    """transformers: where it runs."""
    batch_size: int = 8
    """transformers: questions answered at a time."""
    base_url: str = ""
    """openai: address, such as http://127.0.0.1:8000/v1."""
    key_variable: str = ""
    """openai: environment variable that holds the key; without it none is sent."""
    concurrency: int = 4
    """openai: reports asked about at a time."""
    timeout_s: float = 120.0
    """openai: longest silence of the server."""
    retries: int = 4
    """openai: how often a busy or silent server is asked again."""
    attempts: int = 3
    """Language models: how often a question is asked whose answer has another form, before it is listed."""
    thought_tokens: int = 0
    """Language models: room for thoughts before each answer, for models that think aloud."""
    cache: Path | None = None
    """Language models: file that keeps every usable answer; default answers.sqlite beside out."""

    def __post_init__(self) -> None:
        if min(self.workers, self.batch_size, self.concurrency, self.attempts) < 1 or self.thought_tokens < 0:
            raise ConfigError("workers, batch_size, concurrency and attempts must be at least 1, thought_tokens 0.")
        if self.backend != "rules" and not self.model:
            raise ConfigError(f"--backend {self.backend} needs --model; see --help.")
        if self.backend == "openai" and not self.base_url:
            raise ConfigError("--backend openai needs --base-url, such as http://127.0.0.1:8000/v1.")
        if self.out.is_dir() or self.out.resolve() in (self.reports.resolve(), self.cache_path.resolve()):
            raise ConfigError(f"{self.out} is a folder, the report table or the cache; expected a file to write.")

    @property
    def cache_path(self) -> Path:
        return self.cache or self.out.with_name("answers.sqlite")

    @property
    def key(self) -> str:
        """The key of the server; ConfigError where the variable that should hold it is not set."""
        if self.key_variable and not os.environ.get(self.key_variable):
            raise ConfigError(f"The environment variable {self.key_variable} is not set; expected the server's key.")
        return os.environ[self.key_variable] if self.key_variable else ""


@dataclass(frozen=True, kw_only=True)
class OrganTextJob(ReportsJob):
    """Make organ_text.json: what each report says of each organ, in findings and impression."""

    out: Path = Path(ORGAN_TEXT)
    """File to write. It appears when all is done; until then a hidden journal beside it keeps what is finished."""
    organs: str = "fvlm4"
    """Organ map of the recipe: fvlm4, asg, asg_lobes, asap9, canonical, or a JSON file."""
    kind: ClassVar[Kind] = "organ-text"


@dataclass(frozen=True, kw_only=True)
class OrganStateJob(ReportsJob):
    """Make organ_state.json: which organs each report calls abnormal."""

    out: Path = Path(ORGAN_STATE)
    """File to write. It appears when all is done; until then a hidden journal beside it keeps what is finished."""
    organs: str = "fvlm4"
    """Organ map of the recipe: fvlm4, asg, asg_lobes, asap9, canonical, or a JSON file."""
    rule: StateRule = "impression"
    """rules: impression = the impression speaks of it (fVLM's rule); stated = a finding there is not denied."""
    unmentioned: Literal["normal", "unknown"] = "normal"
    """Language models: what an organ is that a report leaves out."""
    kind: ClassVar[Kind] = "organ-state"


@dataclass(frozen=True, kw_only=True)
class TripletsJob(ReportsJob):
    """Make triplets.csv: which finding is where, or is not, sentence by sentence."""

    out: Path = Path(TRIPLETS)
    """File to write. It appears when all is done; until then a hidden journal beside it keeps what is finished."""
    kind: ClassVar[Kind] = "triplets"


@dataclass(frozen=True, kw_only=True)
class DistillJob(ReportsJob):
    """Make distilled.csv: each report as short statements, "There is no pleural effusion."."""

    out: Path = Path(DISTILLED)
    """File to write. It appears when all is done; until then a hidden journal beside it keeps what is finished."""
    entities: Path | None = None
    """Speak only of these: a text file with one word or phrase a line."""
    triplets: Path | None = None
    """rules: take the statements from this triplets.csv; the reports only say which studies there are."""
    kind: ClassVar[Kind] = "distill"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.triplets is not None and self.backend != "rules":
            raise ConfigError("--triplets goes with --backend rules: nothing is left to ask a language model.")


@dataclass(frozen=True, kw_only=True)
class ImportFvlmJob:
    """Join fVLM's two published files into organ_text.json."""

    desc: Path
    """desc_info.json, made from findings."""
    conc: Path
    """conc_info.json, made from impressions."""
    out: Path = Path(ORGAN_TEXT)
    """File to write."""


@dataclass(frozen=True, kw_only=True)
class ImportRegionsJob:
    """Turn RadGenome-ChestCT's region_report.csv into organ_text.json."""

    regions: Path
    """region_report.csv: Volumename, Anatomy, Sentence."""
    out: Path = Path(ORGAN_TEXT)
    """File to write."""
    organs: str = "fvlm4"
    """Organ map of the recipe: fvlm4, asg, asg_lobes, asap9, canonical, or a JSON file."""


@dataclass(frozen=True, kw_only=True)
class ImportPresenceJob:
    """Turn RadGenome-ChestCT's vqa_presence.csv into triplets.csv."""

    presence: Path
    """vqa_presence.csv: Volumename, Anatomy, Finding, Presence."""
    out: Path = Path(TRIPLETS)
    """File to write."""
    reports: Path | None = None
    """Table of the same reports, to find each finding's sentence; without it sentences are not known."""


BuildJob = OrganTextJob | OrganStateJob | TripletsJob | DistillJob
ImportJob = ImportFvlmJob | ImportRegionsJob | ImportPresenceJob

Job = (
    Annotated[OrganTextJob, tyro.conf.subcommand("organ-text")]
    | Annotated[OrganStateJob, tyro.conf.subcommand("organ-state")]
    | Annotated[TripletsJob, tyro.conf.subcommand("triplets")]
    | Annotated[DistillJob, tyro.conf.subcommand("distill")]
    | Annotated[ImportFvlmJob, tyro.conf.subcommand("import-fvlm")]
    | Annotated[ImportRegionsJob, tyro.conf.subcommand("import-regions")]
    | Annotated[ImportPresenceJob, tyro.conf.subcommand("import-presence")]
)
