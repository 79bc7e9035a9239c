import pytest
import torch

from core.errors import ConfigError
from trainers.batch import IGNORE, check_batch, collate


def a_sample(tokens: int, sentences: int) -> dict[str, torch.Tensor | str]:
    ids = torch.arange(2, 2 + tokens)
    return {
        "study_id": f"s{tokens}",
        "image": torch.zeros(1, 4, 4, 2),
        "organ_mask": torch.zeros(4, 4, 2, dtype=torch.uint8),
        "findings_ids": ids,
        "findings_attn": torch.ones(tokens, dtype=torch.bool),
        "findings_sent": torch.ones(tokens, dtype=torch.int16),
        "report_ids": ids,
        "report_attn": torch.ones(tokens, dtype=torch.bool),
        "mlm_in": ids,
        "mlm_labels": ids,
        "sentence_target": torch.ones(sentences, 8),
        "sentence_target_valid": torch.ones(sentences, dtype=torch.bool),
    }


def test_collate_pads_tokens_and_sentences_to_the_longest_with_each_fields_own_fill():
    batch = collate([a_sample(5, 1), a_sample(3, 2)])
    check_batch(batch)
    assert batch["study_id"] == ["s5", "s3"]
    assert batch["findings_ids"].tolist() == [[2, 3, 4, 5, 6], [2, 3, 4, 0, 0]]
    assert batch["findings_attn"][1].tolist() == [True, True, True, False, False]
    assert batch["mlm_labels"][1].tolist() == [2, 3, 4, IGNORE, IGNORE]
    assert batch["sentence_target"].shape == (2, 2, 8)
    assert batch["sentence_target_valid"].tolist() == [[True, False], [True, True]]


def test_missing_input_is_named():
    batch = collate([a_sample(3, 1)])
    del batch["organ_mask"]
    with pytest.raises(ConfigError, match="lacks organ_mask"):
        check_batch(batch)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("organ_mask", torch.zeros(1, 4, 4, 2), "organ_mask is torch.float32"),
        ("organ_mask", torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "Axis Z of organ_mask has size 3; expected 2"),
        ("report_attn", torch.zeros(1, 3, dtype=torch.bool), "hides the first token"),
        ("image", torch.zeros(1, 2, 4, 4, 2), "Axis 1 of image has size 2"),
    ],
)
def test_wrong_shape_or_type_is_named(key, value, words):
    batch = collate([a_sample(3, 1)])
    batch = {key: value, **{k: v for k, v in batch.items() if k != key}}
    if key == "organ_mask":  # the image comes first in real batches
        batch = {"image": batch.pop("image"), **batch}
    with pytest.raises(ConfigError, match=words):
        check_batch(batch)


def test_studies_with_different_inputs_do_not_mix():
    short = dict(a_sample(3, 1))
    del short["sentence_target"]
    with pytest.raises(ConfigError, match="sentence_target"):
        collate([a_sample(3, 1), short])
