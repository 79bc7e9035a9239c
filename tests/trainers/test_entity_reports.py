"""From report and distilled statements to masked, weighed tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from entity_folder import write_entity_folder

from core.errors import ConfigError
from core.models.ecamp_config import ReportTask
from core.models.entity_masking import RELEASED_RULE
from core.models.tokens import MASK, PAD, train_wordpiece
from trainers.crops import Crop
from trainers.entity_reports import EntityReports
from trainers.report_tokens import read_reports

NO_VOXELS = np.zeros((1, 1, 1), np.int16)
PAPER = ReportTask()
RELEASED = ReportTask(rule=RELEASED_RULE, max_tokens=64, as_released=True)


@pytest.fixture
def folder(tmp_path):
    return write_entity_folder(tmp_path)


def a_source(folder, task=PAPER) -> EntityReports:
    rows = {row.study_id: row for row in read_reports(folder)}
    words = train_wordpiece([f"{row.text} There may be." for row in rows.values()], 400)
    return EntityReports(rows, words, task, folder)


def draw(source, study="s0", is_mirrored=False, seed=0):
    return source.make(Crop(study, NO_VOXELS, None, is_mirrored), np.random.default_rng(seed))


def told(source, sample) -> str:
    real = sample["report_ids"][sample["report_attn"]].tolist()
    return " ".join(source.tokenizer.tokens(real)).replace(" ##", "")


@pytest.mark.parametrize("task", [ReportTask(), RELEASED])
def test_fields_fit_together(folder, task):
    source = a_source(folder, task)
    for seed in range(20):
        sample = draw(source, seed=seed)
        assert set(sample) == set(source.fields)
        hidden = sample["mlm_in"] != sample["report_ids"]
        assert torch.equal(hidden, sample["mlm_labels"] >= 0)
        assert bool((sample["mlm_in"][hidden] == MASK).all())
        assert torch.equal(sample["mlm_labels"][hidden], sample["report_ids"][hidden])
        assert sample["mlm_weight"].sum().item() == pytest.approx(len(hidden), rel=1e-5)
        words = source.tokenizer.tokens(sample["report_ids"][sample["report_entity"]].tolist())
        assert {"nodule", "edema"} <= set(words)


def test_statements_come_between_sentences_in_most_visits(folder):
    """Four visits of five insert; every sentence keeps its place among the others; all boundaries are chosen."""
    source, plain, texts = a_source(folder), a_source(folder, ReportTask(insert_chance=0.0)), []
    report, statements = told(plain, draw(plain)), "there is nodule . there is no edema . "
    for seed in range(300):
        texts.append(told(source, draw(source, seed=seed)) + " ")
    with_them = [text for text in texts if statements in text]
    assert 0.74 < len(with_them) / len(texts) < 0.86
    assert all(text.replace(statements, "", 1).strip() == report for text in texts)
    assert len({text.index(statements) for text in with_them}) == 4


def test_descriptors_are_hidden_in_the_papers_rule_only(folder):
    """ "bright", and "a" before it, stand before the entity."""
    for task, least, most in ((ReportTask(), 1.0, 1.0), (RELEASED, 0.6, 0.8)):
        source, hits = a_source(folder, task), []
        for seed in range(200):
            sample = draw(source, seed=seed)
            place = source.tokenizer.tokens(sample["report_ids"].tolist()).index("bright")
            hits.append(sample["mlm_in"][place].item() == MASK)
        assert least <= np.mean(hits) <= most


def test_released_texts_are_padded_and_others_are_not(folder):
    padded, plain = draw(a_source(folder, RELEASED)), draw(a_source(folder))
    assert len(padded["report_ids"]) == 64
    assert bool((padded["report_ids"][~padded["report_attn"]] == PAD).all())
    assert bool(plain["report_attn"].all())


@pytest.mark.parametrize("task", [ReportTask(insert_chance=1.0), replace(RELEASED, insert_chance=1.0)])
def test_a_mirrored_study_says_the_other_side(folder, task):
    source = a_source(folder, task)
    assert " left lobe" in told(source, draw(source))
    assert " right lobe" in told(source, draw(source, is_mirrored=True))


def test_missing_statements_name_their_builder(folder):
    source = a_source(folder)
    with pytest.raises(ConfigError, match="lacks 1 of 2.*trainers.builders distill"):
        source.check(["s1", "other"])
    (folder / "distilled.csv").unlink()
    with pytest.raises(ConfigError, match="trainers.builders distill"):
        a_source(folder)
    a_source(folder, ReportTask(insert_chance=0.0)).check(["s1", "other"])  # not needed then


def test_an_empty_report_hides_nothing(folder):
    source = a_source(folder)
    source.rows["s0"] = replace(source.rows["s0"], findings="", impression="")
    source.distilled["s0"] = ""
    sample = draw(source)
    assert len(sample["report_ids"]) == 1
    assert sample["mlm_labels"].tolist() == [-100]
