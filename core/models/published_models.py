"""The models that published files belong to, at their true sizes, and how those were shown a CT."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.models.asap import ASAP
from core.models.asap_config import released as asap_released
from core.models.checkpoint import ENCODER_PARTS
from core.models.ecamp import ECAMP
from core.models.ecamp_config import ecamp_paper
from core.models.fvlm import FVLM
from core.models.fvlm_config import released as fvlm_released
from core.models.imports import Fitted, Found, fit_weights
from core.models.visd import VISD
from core.models.visd_config import released as visd_released

ASAP_VIEW: dict[str, list[float]] = {
    "spacing_mm": [1.5, 1.5, 3.0],
    "window_hu": [-1000.0, 1000.0],
    "shown_as": [-1.0, 1.0],
    "crop": [224, 224, 112],
}
"""ASAP's preprocessing."""
ORGAN_VIEW: dict[str, list[float]] = {
    "spacing_mm": [1.0, 1.0, 3.0],
    "window_hu": [-1150.0, 350.0],
    "shown_as": [0.0, 1.0],
    "crop": [352, 256, 112],
    "organ_margin": [20, 20, 5],
}
"""fVLM's and ViSD-Boost's preprocessing."""


@dataclass(frozen=True)
class PublishedModel:
    """What a source's weights are held against, and with an engine what they become."""

    recipe: str
    """Whose model it is."""
    build: Callable[[Any], nn.Module]
    """Model from its config."""
    config: Callable[[], Any]
    """The published sizes."""
    needed: tuple[str, ...] = ENCODER_PARTS
    """Beginnings of the names without which the file is of no use."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """How the published code shows a CT to it; see `core.grounding.model_folder`."""


def _facts(view: Mapping[str, list[float]], **more: str) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in view.items()} | {"resample": "as_released"} | more


ASAP_FACTS = _facts(ASAP_VIEW, axes="RAS", organ_map="asap9", clip_late="false", place="anywhere", padding="mirror")
# CT-RATE's files are stored (L, P, S), and neither code turns them
ORGAN_FACTS = _facts(ORGAN_VIEW, axes="LPS", organ_map="fvlm4", clip_late="true", place="organs", padding="air")


PUBLISHED_MODELS: dict[str, PublishedModel] = {
    "asap": PublishedModel("asap", ASAP, asap_released, facts=ASAP_FACTS),
    "fvlm": PublishedModel("fvlm", FVLM, fvlm_released, facts=ORGAN_FACTS),
    "visd": PublishedModel("visd", VISD, visd_released, facts=ORGAN_FACTS),
    "ecamp": PublishedModel("ecamp", ECAMP, ecamp_paper),
    "mae-vit-b": PublishedModel("fvlm", FVLM, fvlm_released),
    "cxr-bert": PublishedModel("fvlm", FVLM, fvlm_released),
}
"""By the name of the source."""


def check_source(found: Found) -> Fitted:
    """What of a published file fits the published model; CheckpointError when too little does. Allocates nothing."""
    published = PUBLISHED_MODELS[found.source.name]
    with torch.device("meta"):
        model = published.build(published.config())
    return fit_weights(found, model, published.recipe, published.needed)


def makes_engine(found: Found, fitted: Fitted) -> bool:
    """Whether the file holds all that an engine needs, and not, for example, ASAP's encoder alone."""
    starts = found.source.engine
    computed = ("pos_embed",)
    lacking = [name for name in fitted.missing if name.startswith(starts) and not name.endswith(computed)]
    return bool(starts) and all(name.endswith(".counter") for name in lacking)


def complete_weights(found: Found, fitted: Fitted) -> dict[str, Tensor]:
    """Fitted weights with what is computed and what is tied, so that a model of ours loads them strictly.

    Weights that the file lacks and an engine does not need stay out.
    """
    published = PUBLISHED_MODELS[found.source.name]
    with torch.device("meta"):
        model = published.build(published.config())
    model.load_state_dict(fitted.weights, strict=False, assign=True)
    state = model.state_dict()
    for name, original in found.source.tied.items():
        if original in fitted.weights:
            state[name] = fitted.weights[original]
    return {name: value for name, value in state.items() if not value.is_meta}
