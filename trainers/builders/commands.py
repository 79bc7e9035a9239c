"""The work behind the commands: tables in, one file and a summary out."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.folder import replace_file
from core.organ_map import ORGAN_MAPS, find_organ_map
from trainers.builders import rules
from trainers.builders.answers import AnswerCache
from trainers.builders.dialogue import LanguageModel
from trainers.builders.endpoint import Endpoint, EndpointConfig
from trainers.builders.files import (
    distilled_to_csv,
    entry_of,
    organ_text_to_json,
    read_triplets,
    study_name,
    triplets_to_csv,
)
from trainers.builders.jobs import (
    BuildJob,
    DistillJob,
    ImportJob,
    ImportPresenceJob,
    ImportRegionsJob,
    OrganStateJob,
    OrganTextJob,
)
from trainers.builders.journal import Journal
from trainers.builders.local_model import LocalModel
from trainers.builders.products import PRODUCTS, ByModel, ByRules, Wish, wish_for
from trainers.builders.prompts import PROMPT_VERSION
from trainers.builders.published import import_fvlm, import_presence, import_regions
from trainers.builders.run import Outcome, Problem, Workers, build_all, read_reports


def build(job: BuildJob) -> dict[str, Any]:
    """Make a file from reports; returns the summary. Raises ConfigError or EngineError, and then writes nothing."""
    if isinstance(job, DistillJob) and job.triplets is not None:
        return _distil_triplets(job, job.triplets)
    wish, model = _wish(job), _open_model(job)
    rows, problems = read_reports(job.reports)
    if model is None:
        journal = Journal(job.out, repr(wish))
        outcome = build_all(rows, ByRules(wish), journal, Workers("processes", job.workers))
    else:
        journal = Journal(job.out, repr((wish, model.name, PROMPT_VERSION, job.thought_tokens)))
        with closing(AnswerCache(job.cache_path, model.name)) as cache:
            asker = ByModel(wish, model, cache, job.attempts, job.thought_tokens)
            outcome = build_all(rows, asker, journal, Workers("threads", _askers(job)))
    _write_outcome(job, outcome)
    journal.remove()
    told = {"backend": job.backend, "model": model.name if model else None, "reused": outcome.reused}
    return told | _summary(job.out, len(outcome.values), [*problems, *outcome.problems])


def import_published(job: ImportJob) -> dict[str, Any]:
    """Bring a published file into one of ours; returns the summary. Raises ConfigError, and then writes nothing."""
    if isinstance(job, ImportPresenceJob):
        rows = read_reports(job.reports)[0] if job.reports else []
        statements = import_presence(job.presence, {study_name(row.study_id, "reports"): row for row in rows})
        _write(job.out, triplets_to_csv(statements.values))
        return _summary(job.out, len(statements.values), statements.problems)
    if isinstance(job, ImportRegionsJob):
        texts = import_regions(job.regions, find_organ_map(job.organs))
    else:
        texts = import_fvlm(job.desc, job.conc)
    _write(job.out, organ_text_to_json(texts.values))
    return _summary(job.out, len(texts.values), texts.problems)


def _wish(job: BuildJob) -> Wish:
    organs = find_organ_map(job.organs) if isinstance(job, OrganTextJob | OrganStateJob) else ORGAN_MAPS["canonical"]
    wish = Wish(job.kind, organs)
    if isinstance(job, OrganStateJob):
        return Wish(job.kind, organs, job.rule, job.unmentioned == "normal")
    return Wish(job.kind, organs, entities=_read_entities(job.entities)) if isinstance(job, DistillJob) else wish


def _open_model(job: BuildJob) -> LanguageModel | None:
    if job.backend == "rules":
        return None
    if job.backend == "transformers":
        return LocalModel(Path(job.model), job.device, job.batch_size)
    return Endpoint(EndpointConfig(job.base_url, job.model, job.key, job.timeout_s, job.retries))


def _askers(job: BuildJob) -> int:
    return job.concurrency if job.backend == "openai" else 1  # one model on one machine answers one at a time


def _distil_triplets(job: DistillJob, path: Path) -> dict[str, Any]:
    """Statements from triplets that were made before, for the studies of the report table."""
    rows, problems = read_reports(job.reports)
    triplets, is_wanted = read_triplets(path), wish_for(_read_entities(job.entities))
    texts = {}
    for row in rows:
        statements = entry_of(triplets, row.study_id)
        if statements is None:
            problems.append(Problem(row.study_id, f"{path.name} says nothing of it"))
        texts[study_name(row.study_id, job.reports.name)] = rules.distil(statements or [], is_wanted)
    _write(job.out, distilled_to_csv(texts))
    return _summary(job.out, len(texts), problems)


def _read_entities(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path} ({error}). Expected UTF-8 text with one entity a line.") from error
    if not any(lines):
        raise ConfigError(f"{path} holds no entity; expected one word or phrase a line.")
    return tuple(line for line in lines if line)


def _write_outcome(job: BuildJob, outcome: Outcome) -> None:
    if not outcome.values:
        raise ConfigError(f"No report could be used; the first: {outcome.problems[0].reason}")
    product = PRODUCTS[job.kind]
    _write(job.out, product.to_text({study: product.restore(value) for study, value in outcome.values.items()}))


def _write(path: Path, text: str) -> None:
    """The whole file or nothing."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}). Free some space or choose another.") from error


def _summary(out: Path, studies: int, problems: Sequence[Problem]) -> dict[str, Any]:
    return {"out": str(out), "studies": studies, "problems": [problem._asdict() for problem in problems]}
