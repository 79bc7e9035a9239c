"""Words that a report turns on and phrases that say nothing, for ECAMP's masking: as published, and for chest CT."""

from dataclasses import dataclass

from core.errors import ConfigError

XRAY_ENTITIES = tuple(
    """abnormality abscess aerate aorta atelectasis bronchiectasis calcification cardiomediastinal cardiomegaly catheter
    chf collapse congestion consolidation contour COPD deformity dilation distention edema effusion embolism emphysema
    engorgement fibrosis fracture granuloma hernia hilar hyperinflate hemidiaphragm infiltrate mass nodule obscure
    opacity perihilar pneumonia pneumothorax sarcoidosis silhouette thickening tuberculosis vasculature""".split()
)
"""ECAMP's 44 chest X-ray entities. Texts are lower-cased, so its "COPD" never matches (spec 2.1)."""

CT_ENTITIES = tuple(
    " ".join(phrase.split())
    for phrase in """
    nodules, opacities, ground-glass, ground glass, lymphadenopathy, lymph node, lymph nodes, fibrotic, sequela,
    sequelae, septal, mosaic, aneurysm, masses, cyst, cysts, metastasis, metastases, fractures, stent, pacemaker,
    effusions, consolidations, calcifications, calcified, calcific, emphysematous, bronchiectatic, atelectatic,
    thickened,
    infiltration, infiltrations, infiltrates, hiatal hernia, pericardial effusion, pleural effusion, atheroma,
    atherosclerosis, peribronchial, reticular, tree-in-bud, crazy paving, honeycombing, cavity, cavitary, pneumonic,
    dilatation, ectasia, density, densities, air trapping, bulla, bullae, halo, lesion, lesions, tumor, granulomas,
    hepatosteatosis, hemangioma, catheters
    """.split(",")
)
"""What chest CT reports speak about beside the X-ray entities (spec 8.3; plurals and adjectives are ours)."""

XRAY_STOCK_PHRASES = ("there is no evidence of", "there is no")
"""ECAMP's two."""

CT_STOCK_PHRASES = (
    *XRAY_STOCK_PHRASES,
    "was not detected",
    "were not detected",
    "is not observed",
    "was not observed",
    "were not observed",
    "not observed",
    "not detected",
    "no pathological",
)
"""How CT-RATE's reports say that something is absent (spec 8.4)."""


@dataclass(frozen=True)
class EntityWords:
    """One list of each kind. A run writes its lists into its config, which may also bring others (`--model`)."""

    entities: tuple[str, ...] = tuple(sorted({word.lower() for word in (*XRAY_ENTITIES, *CT_ENTITIES)}))
    """Words and phrases whose mention is what the report is about."""
    stock_phrases: tuple[str, ...] = CT_STOCK_PHRASES
    """Phrases that are easily guessed; the loss nearly leaves them out."""

    def __post_init__(self) -> None:
        blank = [text for text in (*self.entities, *self.stock_phrases) if not text.strip()]
        if not self.entities or blank:
            raise ConfigError("A list of entity words must not be empty nor hold blank entries.")


XRAY_WORDS = EntityWords(XRAY_ENTITIES, XRAY_STOCK_PHRASES)
"""As published."""
