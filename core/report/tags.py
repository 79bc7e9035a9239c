"""The tags that image models of CT recognise: CT-RATE's 18 labels and frequent findings, synonyms folded."""

from functools import lru_cache

from core.findings import CT_RATE_LABELS
from core.report.mentions import read_sentence

_OTHERS: dict[str, tuple[str, ...]] = {
    "pneumothorax": (),
    "pneumonia": (),
    "lung mass": ("lung lesion",),
    "lung cyst": (),
    "pleural thickening": ("pleural calcification", "empyema"),
    "airway obstruction": ("secretion in the airway",),
    "mass": ("mediastinal mass", "lesion", "soft tissue nodule"),
    "wall thickening": ("esophageal wall thickening",),
    "aneurysm": ("dilatation", "aortic dissection"),
    "thyroid nodule": ("goiter",),
    "metastasis": (),
    "hepatic steatosis": (),
    "hepatomegaly": (),
    "liver lesion": ("hepatic cyst", "hemangioma"),
    "gallstone": (),
    "kidney stone": ("hydronephrosis",),
    "renal lesion": ("renal cyst",),
    "adrenal nodule": ("adrenal thickening", "adenoma"),
    "bone lesion": ("lytic bone lesion", "sclerotic bone lesion"),
    "fracture": ("vertebral height loss",),
    "degenerative change": ("osteoporosis",),
    "scoliosis": ("kyphosis",),
}
"""Tag -> names of `core.report.lexicon` that count as it, beside its own."""

CT_TAGS: tuple[str, ...] = (*CT_RATE_LABELS, *_OTHERS)
"""The 40 tags, in the order of a model's outputs."""

_TAG_OF = {name: tag for tag, others in _OTHERS.items() for name in (tag, *others)} | {
    label.lower(): label for label in CT_RATE_LABELS
}


def fold_finding(finding: str, place: str = "") -> tuple[str, ...]:
    """Tags that a finding's words mean, in their order: ("nodules", "thyroid") -> ("thyroid nodule",); () for none.

    finding may list several; place says where it was seen, for words that mean one thing here and another there.
    """
    return _fold(finding.strip(), place.strip())


@lru_cache(maxsize=65536)
def _fold(finding: str, place: str) -> tuple[str, ...]:
    mentions = read_sentence(f"{finding} in the {place}" if place else finding).mentions
    names = [mention.finding.lower() for mention in mentions] or [finding.lower()]
    return tuple(dict.fromkeys(_TAG_OF[name] for name in names if name in _TAG_OF))
