import numpy as np
import pytest

from core.errors import ConfigError
from trainers.metrics.clinical import score_conditions


def test_conditions_as_published(golden):
    codes = (golden.tensors[f"clinical.{what}_labels"].numpy() for what in ("reference", "generated"))
    scores, told = score_conditions(*codes, as_released=True), golden["clinical"]
    assert scores.reports == told["ce_num_examples"]
    for kind in ("macro", "micro", "example"):
        for name in ("precision", "recall", "f1"):
            assert getattr(getattr(scores, kind), name) == golden.same(told[f"ce_{name}_{kind}"]), (kind, name)


def test_normal_reports_agree_unless_released():
    """First report: right and one false. Second: normal, said to be normal. Third condition: nobody has it."""
    reference, generated = np.array([[1, 0, 0], [0, 2, 0]]), np.array([[1, 1, 3], [0, 0, 0]])
    plain, released = (score_conditions(reference, generated, as_released=flag) for flag in (False, True))
    assert plain.example == pytest.approx(((1 / 2 + 1) / 2, 1.0, (2 / 3 + 1) / 2))
    assert released.example == pytest.approx((1 / 4, 1 / 2, 1 / 3), abs=1e-5)
    assert plain.macro == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert released.macro == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-5)
    assert plain.micro == pytest.approx((1 / 2, 1, 2 / 3))
    assert 0 < plain.micro.recall - released.micro.recall < 1e-5


def test_shapes_must_fit():
    with pytest.raises(ConfigError, match="both"):
        score_conditions(np.zeros((2, 3)), np.zeros((3, 3)))
