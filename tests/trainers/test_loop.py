"""The loop learns, and a stopped run continues as if it had not been stopped."""

import json
import os
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_studies import TinyStudies, tiny_config, tiny_tokenizer

from core.errors import CheckpointError, ConfigError, StudyError
from core.models.asap import ASAP
from core.models.asap_config import LossWeights
from trainers.loop import LoopConfig, train
from trainers.optim import OptimConfig
from trainers.resume import STATE, WEIGHTS, latest_checkpoint
from trainers.run_log import BAD_STUDIES, LOG, NOTES, LogConfig, RunLog


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps one state per process; a run of another precision needs a new one."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


def a_model(**changes: object) -> ASAP:
    torch.manual_seed(7)
    return ASAP(replace(tiny_config(tiny_tokenizer()), **changes))


def a_config(steps: int, **changes: object) -> LoopConfig:
    optim = OptimConfig(steps=steps, warmup_steps=1, peak_lr=3e-3)
    return replace(LoopConfig(batch_size=4, log=LogConfig(every=1), cpu=True, optim=optim), **changes)


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


@pytest.mark.training
def test_learns_eight_studies_by_heart(tmp_path):
    """The sentence's cosine must end highest inside the box it names, for every study."""
    weights = LossWeights(reconstruction=1, injection=1, language=1, alignment=1, grounding=1)
    model = a_model(weights=weights, mask_ratio=0.5)
    studies = TinyStudies(tiny_tokenizer())
    config = a_config(30, batch_size=8)
    model = train(model, studies, config, tmp_path)
    losses = [entry["losses"] for entry in log_of(tmp_path)]
    for name in ("injection", "language", "grounding", "total"):
        assert losses[-1][name] < 0.75 * losses[0][name], name
    hits = 0
    for index in range(len(studies)):
        sample = studies[index]
        tokens = model.encode_patches(sample["image"][None])
        patches = model.project_patches(tokens).flatten(0, 3)
        only = sample["findings_sent"] == 1
        sentence = model.embed_sentences(
            sample["findings_ids"][None], sample["findings_attn"][None], (sample["findings_sent"] * only)[None]
        )
        peak = torch.nn.functional.cosine_similarity(sentence, patches).argmax()
        hits += int(sample["sentence_target"][0, peak] > 0)
    assert hits >= 7


@pytest.mark.training
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_continues_bit_for_bit(tmp_path, accumulate):
    studies = TinyStudies(tiny_tokenizer())
    config = a_config(6, checkpoint_every=3, accumulate=accumulate, batch_size=2)
    whole = train(a_model(), studies, config, tmp_path / "whole")

    class Fragile(TinyStudies):
        """Dies while reading the fifth step, two steps after the checkpoint."""

        reads = 0

        def __getitem__(self, index: int) -> dict:
            self.reads += 1
            if self.reads > 4 * accumulate * 2:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        train(a_model(), Fragile(tiny_tokenizer()), config, tmp_path / "killed")
    torch.manual_seed(12345)  # whatever the new process starts with must not matter
    torch.rand(17)
    continued = train(a_model(), studies, config, tmp_path / "killed")
    for (name, a), (_, b) in zip(whole.state_dict().items(), continued.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    first, second = log_of(tmp_path / "whole"), log_of(tmp_path / "killed")
    assert [(e["step"], e["losses"]) for e in first] == [(e["step"], e["losses"]) for e in second]


@pytest.mark.training
@pytest.mark.parametrize("file", [WEIGHTS, STATE])
def test_a_disk_that_fills_up_keeps_the_earlier_checkpoint(tmp_path, file):
    """No file may become as large as `file` while the third checkpoint is written."""
    config = a_config(2, checkpoint_every=1, batch_size=2)
    train(a_model(), TinyStudies(tiny_tokenizer()), config, tmp_path)
    room = (latest_checkpoint(tmp_path) / file).stat().st_size - 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    more = replace(config, optim=replace(config.optim, steps=3))
    try:
        with pytest.raises(CheckpointError, match="of step 3 could not be written.*Earlier ones are whole"):
            train(a_model(), TinyStudies(tiny_tokenizer()), more, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.glob("*step-*")) == ["step-0000001", "step-0000002"]
    train(a_model(), TinyStudies(tiny_tokenizer()), more, tmp_path)
    assert latest_checkpoint(tmp_path).name == "step-0000003"


@pytest.mark.training
def test_bf16_on_the_cpu_keeps_float32_weights(tmp_path):
    model = train(a_model(), TinyStudies(tiny_tokenizer()), a_config(3, precision="bf16"), tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.training
def test_gradients_that_are_no_numbers_never_reach_the_weights(tmp_path):
    class Broken(TinyStudies):
        def __getitem__(self, index: int) -> dict:
            sample = super().__getitem__(index)
            sample["sentence_target"] = sample["sentence_target"] * float("nan")
            return sample

    model = a_model(weights=LossWeights(grounding=1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError, match="not finite in 6 steps in a row"):
        train(model, Broken(tiny_tokenizer()), a_config(50, batch_size=2), tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class SomeBroken(TinyStudies):
    """Studies 2 and 5 have voxels that are no numbers."""

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(index)
        if index in (2, 5):
            sample["image"][0, 3, 3, 3] = float("nan")
        return sample


@pytest.mark.training
@pytest.mark.parametrize("workers", [0, 1])
def test_studies_with_nan_voxels_are_replaced_and_counted(tmp_path, workers):
    model = train(a_model(), SomeBroken(tiny_tokenizer()), a_config(4, workers=workers), tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert log_of(tmp_path)[-1]["bad_studies"] == 2
    told = [json.loads(line)["trouble"] for line in (tmp_path / BAD_STUDIES).read_text().splitlines()]
    assert sorted(line.split()[1] for line in told) == ["2", "5"]


@pytest.mark.training
def test_too_many_bad_studies_end_the_run(tmp_path):
    config = a_config(4, log=LogConfig(every=1, most_bad_studies=1))
    with pytest.raises(StudyError, match="2 studies cannot be used.*bad_studies.jsonl"):
        train(a_model(), SomeBroken(tiny_tokenizer()), config, tmp_path)


class SomeNoted(TinyStudies):
    """There is something to know of every study but 2 and 5."""

    def __getitem__(self, index: int) -> dict:
        return super().__getitem__(index) | {"note": "" if index in (2, 5) else f"Study {index} is thin."}


@pytest.mark.training
def test_notes_are_written_once_and_the_first_are_told(tmp_path, capsys):
    studies = SomeNoted(tiny_tokenizer())
    train(a_model(), studies, a_config(6), tmp_path)
    told = [json.loads(line)["note"] for line in (tmp_path / NOTES).read_text().splitlines()]
    assert sorted(told) == [f"Study {number} is thin." for number in range(len(studies)) if number not in (2, 5)]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert [line.split(" Others")[0] for line in said] == [f"note: {note}" for note in told[:3]]
    assert str(tmp_path / NOTES) in said[-1]
    assert log_of(tmp_path)[-1]["bad_studies"] == 0


def test_a_damaged_log_is_no_reason_to_stop(tmp_path):
    whole = [json.dumps({"step": step, "lr": 0.1}) for step in (1, 2, 3)]
    lines = [whole[0].encode(), b"\xff junk", b"[]", whole[1].encode(), whole[2].encode()]
    (tmp_path / LOG).write_bytes(b"\n".join(lines))
    RunLog(tmp_path, (2, 4), LogConfig(), 1, 0).close()
    assert (tmp_path / LOG).read_text().splitlines() == whole[:2]


@pytest.mark.training
def test_a_killed_reader_is_named(tmp_path):
    class Deadly(TinyStudies):
        def __getitem__(self, index: int) -> dict:
            if index == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    with pytest.raises(ConfigError, match="A process that reads studies was killed.*--loop.workers"):
        train(a_model(), Deadly(tiny_tokenizer()), a_config(4, workers=1), tmp_path)


@pytest.mark.training
def test_a_killed_reader_is_named_wherever_torch_tells_of_it(tmp_path, monkeypatch):
    """Its signal may come in the middle of a step, and not while a batch is waited for."""

    def interrupted(*_: object) -> float:
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")

    monkeypatch.setattr("trainers.loop.apply_gradients", interrupted)
    with pytest.raises(ConfigError, match="A process that reads studies was killed"):
        train(a_model(), TinyStudies(tiny_tokenizer()), a_config(4), tmp_path)


@pytest.mark.training
def test_a_batch_that_teaches_nothing_leaves_the_weights_alone(tmp_path):
    """Not even their decay changes them."""

    class Silent(TinyStudies):
        def __getitem__(self, index: int) -> dict:
            sample = super().__getitem__(index)
            sample["sentence_target_valid"][:] = False
            return sample

    weights = LossWeights(0, 0, 0, 0, grounding=1.0)
    before = a_model(weights=weights).state_dict()
    model = train(a_model(weights=weights), Silent(tiny_tokenizer()), a_config(3), tmp_path)
    assert log_of(tmp_path)[-1]["losses"]["total"] == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.training
def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    config = a_config(4, checkpoint_every=2, batch_size=2)
    whole = train(a_model(), TinyStudies(tiny_tokenizer()), config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    (tmp_path / "killed" / "step-0000004").rename(tmp_path / "killed" / ".step-0000004.part")
    (tmp_path / "killed" / ".step-0000004.part" / STATE).write_bytes(b"half")
    with (tmp_path / "killed" / LOG).open("a") as log:
        log.write('{"step": 4, "los')
    continued = train(a_model(), TinyStudies(tiny_tokenizer()), config, tmp_path / "killed")
    assert sorted(p.name for p in (tmp_path / "killed").glob("*step*")) == ["step-0000002", "step-0000004"]
    assert all(torch.equal(value, continued.state_dict()[name]) for name, value in whole.state_dict().items())
    assert [entry["step"] for entry in log_of(tmp_path / "killed")] == [1, 2, 3, 4]


def test_a_missing_input_stops_before_the_first_step(tmp_path):
    class WithoutMasks(TinyStudies):
        def __getitem__(self, index: int) -> dict:
            sample = super().__getitem__(index)
            del sample["organ_mask"]
            return sample

    with pytest.raises(ConfigError, match="lacks organ_mask"):
        train(a_model(), WithoutMasks(tiny_tokenizer()), a_config(3), tmp_path)
