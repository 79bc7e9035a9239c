"""Two processes train as one does: the same losses, weights and masks, whole models or shards, and so they continue."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_studies import TinyStudies, tiny_config, tiny_tokenizer
from torch import distributed as dist
from torch import multiprocessing

from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig, Fixes, LossWeights
from core.models.checkpoint import read_weights
from trainers.loop import LoopConfig, train
from trainers.optim import OptimConfig
from trainers.resume import WEIGHTS, latest_checkpoint
from trainers.run_log import LOG, LogConfig
from trainers.validation import Watch

WHOLE_BATCH = 4


class UnevenStudies(TinyStudies):
    """Odd studies lose their second sentence, so that processes hold different numbers of sentences and words."""

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(index)
        if index % 2:
            second = sample["findings_sent"] == 2
            sample["findings_sent"] = sample["findings_sent"].masked_fill(second, 0)
            sample["mlm_labels"] = sample["mlm_labels"].masked_fill(second, -100)
        return sample


def a_model_config(counted_together: bool = True, reconstruction: float = 1.0) -> ASAPConfig:
    weights = LossWeights(reconstruction, study=0.5, grounding=1.0, size_prior=0.1)
    fixes = Fixes(counted_together=counted_together)
    return replace(tiny_config(tiny_tokenizer()), weights=weights, mask_ratio=0.5, fixes=fixes)


def a_model(config: ASAPConfig | None = None) -> ASAP:
    torch.manual_seed(7)
    return ASAP(config or a_model_config())


def train_here(
    folder: Path, processes: int, steps: int = 3, model: ASAPConfig | None = None, **changes: object
) -> None:
    """One run of this process, alone or as one of several."""
    torch.set_num_threads(1)
    optim = OptimConfig(steps=3, warmup_steps=1, peak_lr=3e-3, clip_norm=0.5)
    config = LoopConfig(
        WHOLE_BATCH // processes, accumulate=2, cpu=True, log=LogConfig(every=1), checkpoint_every=1, optim=optim
    )
    studies = UnevenStudies(tiny_tokenizer())
    if steps < 3:
        studies = dying_after(studies, steps * 2 * config.batch_size)
    watch = Watch(TinyStudies(tiny_tokenizer())) if steps == 3 else None
    train(a_model(model), studies, replace(config, **changes), folder, watch=watch)


def dying_after(studies: UnevenStudies, reads: int) -> UnevenStudies:
    """The same studies, which end the process when one more is read."""

    class Dying(UnevenStudies):
        left = reads

        def __getitem__(self, index: int) -> dict:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    return Dying(studies.tokenizer)


def work(rank: int, port: int, folder: Path) -> None:
    """What each of two processes does: the same run replicated, and in shards, the latter stopped and continued."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
    train_here(folder / "ddp", 2)
    train_here(folder / "apart", 2, model=a_model_config(counted_together=False))
    train_here(folder / "idle", 2, model=a_model_config(reconstruction=0.0), sharding="fsdp")
    for name, second in (("fsdp", "fsdp"), ("fsdp, then ddp", "ddp")):
        try:
            train_here(folder / name, 2, steps=2, sharding="fsdp")
        except KeyboardInterrupt:
            train_here(folder / name, 2, sharding=second)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of the run alone, of two processes with whole models, and of two processes with shards."""
    folder = tmp_path_factory.mktemp("runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, folder), nprocs=2)
    AcceleratorState._reset_state(reset_partial_state=True)
    train_here(folder / "alone", 1)
    return folder


@pytest.mark.training
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fsdp, then ddp"])
def test_two_processes_have_the_losses_and_weights_of_one(runs, kind):
    logs = [[json.loads(line) for line in (runs / name / LOG).read_text().splitlines()] for name in ("alone", kind)]
    assert len(logs[0]) == len(logs[1]) == 4  # three steps and one validation
    for one, two in zip(*logs, strict=True):
        assert one["step"] == two["step"]
        group = "losses" if "losses" in one else "validation"
        for name, value in one[group].items():
            assert two[group][name] == pytest.approx(value, rel=2e-5), (one["step"], name)
        assert two.get("gradient_norm", 0) == pytest.approx(one.get("gradient_norm", 0), rel=1e-4)
    one, two = (read_weights(latest_checkpoint(runs / name) / WEIGHTS)[0] for name in ("alone", kind))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.training
def test_means_of_each_processs_means_depart_from_one_process(runs):
    """Defect of the published code: a sentence weighs more on a card with few of them."""
    first = [json.loads((runs / name / LOG).read_text().splitlines()[0])["losses"] for name in ("alone", "apart")]
    for name in ("language", "alignment", "study"):
        assert abs(first[0][name] - first[1][name]) > 1e-4, name
    assert first[1]["reconstruction"] == pytest.approx(first[0]["reconstruction"], rel=2e-5)  # counts are equal there


@pytest.mark.training
def test_shards_that_take_no_part_do_not_decay(runs):
    """As in whole models, where a weight without a gradient is left alone."""
    before = a_model().state_dict()
    after = read_weights(latest_checkpoint(runs / "idle") / WEIGHTS)[0]
    idle = [name for name in after if name.startswith(("decoder_pred_layer.", "decoder_blocks.1."))]
    assert len(idle) > 10
    assert all(torch.equal(after[name], before[name]) for name in idle)
    assert not torch.equal(after["norm.weight"], before["norm.weight"])


@pytest.mark.training
def test_a_checkpoint_of_shards_is_that_of_whole_models(runs):
    """Written whole and by name: moments have full shapes whatever holds them during training."""
    states = [torch.load(latest_checkpoint(runs / name) / "training.pt", weights_only=True) for name in ("ddp", "fsdp")]
    shapes = [{name: value["exp_avg"].shape for name, value in state["moments"].items()} for state in states]
    assert shapes[0] == shapes[1]
    assert states[0]["processes"] == 2
