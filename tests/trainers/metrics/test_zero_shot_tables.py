import numpy as np
import pytest

from core.errors import ConfigError
from core.models.organ_scores import FVLM_PROMPTS
from trainers.metrics.zero_shot import (
    THRESHOLDS,
    Column,
    average_scores,
    find_threshold,
    read_labels,
    read_probabilities,
    score_answers_at,
    score_zero_shot,
    tune_thresholds,
)


@pytest.mark.parametrize("protocol", ["fvlm", "visd"])
def test_tables_score_as_published(golden, protocol):
    tables, told = golden["zero_shot_tables"], golden[f"zero_shot_{protocol}"]
    volumes, columns = read_probabilities(tables["predictions_csv"])
    scores = score_zero_shot(columns, read_labels(tables["labels_csv"], volumes), protocol)
    for name, per_disease in told["per_item"].items():
        assert {disease: getattr(one, name) for disease, one in scores.items()} == golden.same(per_disease), name
    mean = average_scores(scores)._asdict()
    assert mean == golden.same(told["average"])
    rounded = {name.lower(): value for name, value in told["average_rounded"].items()}
    assert {name: round(value, 3) for name, value in mean.items()} == rounded


def test_threshold_as_published(golden):
    told = golden["threshold_search"]
    found = find_threshold(np.array(told["probabilities"]), np.array(told["labels"]))
    assert found == golden.same(told["threshold"])
    assert int(np.flatnonzero(found == THRESHOLDS)[0]) == told["index_in_linspace_100"]


def test_of_equal_thresholds_the_largest_is_taken():
    """Anything from 0.2 to below 0.9 tells them apart; 0.9 itself does not, since "yes" is above."""
    found = find_threshold(np.array([0.1, 0.2, 0.9]), np.array([0, 0, 1]))
    assert found == pytest.approx(THRESHOLDS[THRESHOLDS < 0.9].max())
    with pytest.raises(ConfigError, match="all 2 say the same"):
        find_threshold(np.array([0.1, 0.9]), np.array([1, 1]))


LABELS = {"Nodule": np.array([1, 1, 0, 0, 0, 0])}


def test_a_threshold_tuned_on_the_test_flatters():
    column = Column("lung", "Nodule", np.array([0.30, 0.31, 0.10, 0.10, 0.20, 0.29]))
    plain, oracle = (score_zero_shot([column], LABELS, protocol)["Nodule"] for protocol in ("plain", "fvlm"))
    assert plain.auc == oracle.auc == 1
    assert (plain.sens, plain.f1, plain.prec) == (0, 0, 0)
    assert oracle.sens == oracle.f1 == oracle.spec == 1
    tuned = score_zero_shot([column], LABELS, "plain", tune_thresholds([column], LABELS))["Nodule"]
    assert tuned.sens == 1


def test_weighted_f1_rewards_saying_no():
    """Nothing is found: the finding's F1 is 0, "no" has 8/10, which weighs 4 of 6."""
    said_no = np.zeros(6)
    plain, weighted = (score_answers_at(0.5, said_no, LABELS["Nodule"], weighted=flag) for flag in (False, True))
    assert plain.f1 == 0
    assert weighted.f1 == pytest.approx(0.8 * 4 / 6)


def test_missing_probabilities_are_dropped_or_zero():
    """One of the two with a nodule could not be asked: fVLM counts it as the surest "no"."""
    column = Column("lung", "Nodule", np.array([0.9, np.nan, 0.1, 0.1, 0.2, 0.2]))
    plain, fvlm, visd = (score_zero_shot([column], LABELS, name)["Nodule"] for name in ("plain", "fvlm", "visd"))
    assert plain.auc == visd.auc == 1
    assert fvlm.auc == pytest.approx(0.5)


def test_columns_of_one_disease():
    """The heart's answer is useless, the aorta's finds the first, and together with the third organ both are found."""
    columns = [
        Column("aorta", "Nodule", np.array([0.9, np.nan, 0.1, 0.1, 0.1, 0.1])),
        Column("lung", "Nodule", np.array([0.2, 0.9, 0.2, 0.2, 0.2, 0.2])),
        Column("heart", "Nodule", np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5])),
    ]
    assert score_zero_shot(columns[:2], LABELS)["Nodule"].auc == 1
    assert score_zero_shot(columns, LABELS, "fvlm")["Nodule"].auc == 0.5  # the last column wins
    assert score_zero_shot(columns, LABELS, "visd")["Nodule"].auc == 1  # the best of each number


def test_headings_are_those_of_the_prompts():
    prompts = FVLM_PROMPTS[:2]
    text = "file_name," + ",".join(prompt.column for prompt in prompts) + "\nv1,0.25,\nv2,0.5,0.75\n"
    volumes, columns = read_probabilities(text)
    assert volumes == ["v1", "v2"]
    assert [(one.organ, one.disease) for one in columns] == [(prompt.organ, prompt.disease) for prompt in prompts]
    assert np.isnan(columns[1].probabilities[0])
    assert columns[0].probabilities.tolist() == [0.25, 0.5]


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="such as v3"):
        read_labels("VolumeName,Nodule\nv1,1\n", ["v1", "v3"])
    with pytest.raises(ConfigError, match="Expected a table"):
        read_probabilities("file_name,Nodule\nv1,0.5\n")
    with pytest.raises(ConfigError, match="Cyst"):
        score_zero_shot([Column("lung", "Cyst", np.zeros(6))], LABELS)
