"""The whole ViSD-Boost model against the numbers of the published code: organ flags, fusion, vectors, scores."""

from pathlib import Path

import pytest
import test_normality_vq
import test_resnet3d
import torch
from visd_golden import VisdGolden, load_visd

from core.models.organ_pool import organ_tokens
from core.models.organ_scores import can_judge, prompt_probabilities
from core.models.resnet3d import LEVEL_STRIDES
from core.models.visd import VISD, Described


@pytest.fixture(scope="module")
def golden(fixtures: Path) -> VisdGolden:
    return load_visd(fixtures / "visd")


@pytest.fixture(scope="module")
def model(golden) -> VISD:
    return golden.model()


@pytest.fixture(scope="module")
def described(golden, model) -> Described:
    """All organs of both samples; our batches lie (X, Y, Z)."""
    with torch.no_grad():
        return model.describe(golden.images, golden.masks)


def test_organ_flags_of_every_level(golden):
    for number, stride in enumerate(LEVEL_STRIDES, start=1):
        golden.check(f"level{number}_flags", organ_tokens(golden.mask, len(golden.about["organs"]), stride))


def test_which_organs_are_scored(golden):
    names = golden.about["organs"]
    sizes = torch.stack([(golden.masks == o).flatten(1).sum(dim=1) for o in range(1, len(names) + 1)], dim=1)
    for case in golden.about["cases"].values():
        sample = slice(case["sample"], case["sample"] + 1)
        judged = can_judge(golden.masks[sample], sizes[sample], case["skip_organ"])[0]
        assert sorted(n for n, yes in zip(names, judged, strict=True) if yes) == sorted(case["organs_scored"])


def test_tokens_of_every_level_and_organ(golden):
    names = golden.about["organs"]
    flags = [organ_tokens(golden.mask, len(names), stride) for stride in LEVEL_STRIDES]
    for case in golden.about["cases"].values():
        for name, counts in case["tokens_per_level"].items():
            assert [int(level[case["sample"], names.index(name)].sum()) for level in flags] == counts


def test_vectors_and_the_steps_before_them(golden, model, described):
    names = golden.about["organs"]
    with torch.no_grad():
        levels = model.visual_encoder(golden.images)
        flags = [organ_tokens(golden.mask, len(names), stride) for stride in LEVEL_STRIDES]
        base = levels[-1][:, None].expand(-1, len(names), -1, -1)
        normal = described.tokens.spread(described.normal.restored, base)
        pooled = model.pool.pool_levels(levels, flags, normal)
        for case, told in golden.about["cases"].items():
            sample = told["sample"]
            for name in told["organs_scored"]:
                organ = names.index(name)
                own = flags[-1][sample, organ]
                fused = model.pool.fuse(levels[-1][sample][own], normal[sample, organ][own], organ)
                golden.check(f"case{case}.{name}.fused_last_tokens", fused)
                projected = model.pool.vision_projs[organ](pooled[sample, organ])
                golden.check(f"case{case}.{name}.pooled_projected", projected)
                golden.check(f"case{case}.{name}.feature", described.vectors[sample, organ])


def test_probabilities_of_every_item(golden, model, described):
    names, atol = golden.about["organs"], golden.about["tolerance"]["probabilities"]["atol"]
    for told in golden.about["cases"].values():
        for (organ, disease), pair in zip(golden.about["items"], golden.text, strict=True):
            expected = told["probability"][f"{organ}|{disease}"]
            if expected is None:
                assert organ not in told["organs_scored"]
                continue
            vector = described.vectors[told["sample"], names.index(organ)]
            found = prompt_probabilities(vector, pair, model.temperature.value)
            assert found.tolist() == pytest.approx(expected, abs=atol, rel=1e-4)


def test_every_stored_tensor_is_compared(golden, model, described):
    golden.compared.clear()
    test_organ_flags_of_every_level(golden)
    test_vectors_and_the_steps_before_them(golden, model, described)
    test_resnet3d.test_levels_are_the_published_ones(golden)
    test_resnet3d.test_gradients_with_a_detached_shortcut_are_the_published_ones(golden)
    test_normality_vq.test_every_step_of_every_case_is_the_published_one(golden)
    test_normality_vq.test_successive_updates_of_the_codebook_are_the_published_ones(golden)
    given = {name for name in golden.expected if name.startswith("vq") and name.endswith((".input", ".grad_weight"))}
    assert golden.compared == set(golden.expected) - given
    assert set(golden.expected) == set(golden.about["expected"])
