"""The zero-shot protocol on windows that can be checked in one's head."""

import pytest
import torch
from torch.nn import functional as F

from core.models.fvlm import FVLM
from core.models.fvlm_config import tiny as tiny_fvlm
from core.models.organ_scores import (
    FVLM_PROMPTS,
    VISD_PROMPTS,
    Evaluation,
    Prompt,
    can_judge,
    cut_organ,
    judge_volume,
    place_window,
    prompt_probabilities,
)
from core.models.visd import VISD
from core.models.visd_config import tiny as tiny_visd


def test_the_sixteen_questions_are_those_of_the_published_evaluation():
    assert [sum(p.organ == organ for p in FVLM_PROMPTS) for organ in ("lung", "heart", "esophagus", "aorta")] == [
        11,
        3,
        1,
        1,
    ]
    assert len({p.disease for p in FVLM_PROMPTS}) == 16
    assert FVLM_PROMPTS[0].column == "lung_Emphysema_Not Emphysema._Emphysema."


def test_windows_are_centred_and_stay_inside():
    assert place_window((10, 5, 30), (19, 14, 49), (40, 50, 60), (16, 20, 24)) == ((6, 0, 27), (16, 20, 24))
    assert place_window((0, 0, 0), (39, 9, 5), (40, 10, 6), (4, 4, 4)) == ((0, 0, 0), (39, 9, 5))  # last - first
    assert place_window((3, 3, 3), (4, 4, 4), (6, 6, 6), (9, 9, 9)) == ((0, 0, 0), (6, 6, 6))


def test_a_cut_holds_one_organ_and_whole_patches():
    image, mask = torch.arange(600.0).reshape(10, 10, 6), torch.zeros(10, 10, 6, dtype=torch.uint8)
    mask[4:6, 4:6, 2:4], mask[5, 6, 2] = 2, 1
    window, only = cut_organ(image, mask, 2, (5, 4, 3), (4, 4, 4))
    assert window.shape == (1, 1, 8, 4, 4)
    assert only.shape == (1, 8, 4, 4)
    assert only.unique().tolist() == [0, 2]
    assert (only == 2).sum() == 8
    assert window[0, 0, 0, 0, 0] == image[2, 2, 1]  # start = (4 + 5) // 2 - 5 // 2, ...
    assert not window[0, 0, 5:].any()


def test_organs_at_the_border_or_mostly_outside_cannot_be_judged():
    mask = torch.zeros(1, 10, 10, 10, dtype=torch.uint8)
    mask[0, 4, 4, :9], mask[0, 5, 5, 2:8], mask[0, 2:8, 7, 7] = 1, 2, 3
    sizes = torch.tensor([[9.0, 6.0, 7.0, 5.0]])
    assert can_judge(mask, sizes).tolist() == [[False, True, False, False]]  # at a face, whole, 6 of 7, absent
    assert can_judge(mask, sizes, waived=0).tolist() == [[True, True, False, False]]
    assert can_judge(mask, sizes, waived=3).tolist() == [[False, True, False, False]]
    sizes[0, 2] = 6 / 0.9 - 1e-4
    assert can_judge(mask, sizes)[0, 2]


def test_probabilities_are_a_softmax_of_the_two_similarities():
    organ, prompts = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    negative, positive = prompt_probabilities(organ, prompts, 0.5).tolist()
    assert positive == pytest.approx(1 / (1 + torch.tensor(-2.0).exp().item()))
    assert negative + positive == pytest.approx(1)


def test_visd_asks_two_questions_in_other_words():
    changed = {new.disease: new[2:] for old, new in zip(FVLM_PROMPTS, VISD_PROMPTS, strict=True) if old != new}
    assert changed == {
        "Lung nodule": ("Not Lung nodule.", "Lung nodule."),
        "Lung opacity": ("Not Lung opacity.", "Lung opacity."),
    }


@pytest.mark.parametrize(("build", "config", "patch"), [(FVLM, tiny_fvlm, (8, 8, 4)), (VISD, tiny_visd, (32, 32, 16))])
def test_a_volume_is_judged_organ_by_organ(build, config, patch):
    """What lies far from an organ changes its findings no more than another organ does; a missing one has none."""
    torch.manual_seed(0)
    model = build(config(30)).eval()
    image, mask = torch.rand(100, 40, 20), torch.zeros(100, 40, 20, dtype=torch.uint8)
    mask[4:10, 4:20, 4:12], mask[80:90, 4:20, 4:12] = 1, 2
    evaluation = Evaluation(
        tuple(Prompt(o, "x", "no", "yes") for o in ("heart", "lung", "aorta", "lung")), (32, 32, 16), patch
    )
    prompts = F.normalize(torch.randn(4, 2, model.config.embed), dim=-1)
    found = judge_volume(model, image, mask, prompts, evaluation)
    assert found.isnan().tolist() == [False, False, True, False]
    window, only = cut_organ(image, mask, 1, evaluation.window, patch)
    vector = model.organ_embed({"image": window, "organ_mask": only})[0, 0]
    own = (prompts[3] @ vector / model.temperature.value).softmax(-1)[1]
    torch.testing.assert_close(found[3], own.detach())
    far = image.clone()
    far[70:] = 0
    changed = judge_volume(model, far, mask, prompts, evaluation)
    assert torch.equal(changed[[1, 3]], found[[1, 3]])
    assert changed[0] != found[0]
