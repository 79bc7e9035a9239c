"""Sentences that call a structure normal, in words of this project."""

import numpy as np

from core.synthesis.claims import side_of_organs
from core.synthesis.places import pick
from core.synthesis.statement import Statement

NORMALITY: dict[str, tuple[str, ...]] = {
    "heart": (
        "The heart is normal in size.",
        "Heart size is within normal limits.",
        "The cardiac silhouette is not enlarged.",
        "Cardiac chambers have a normal appearance.",
        "Normal-sized heart.",
        "The heart is not enlarged.",
        "Heart: normal size and shape.",
        "Cardiac size is normal.",
        "The size and contours of the heart are normal.",
        "HEART: within normal limits.",
        "The heart shows no abnormality.",
        "Cardiothoracic ratio is normal.",
    ),
    "aorta": (
        "The thoracic aorta has a normal calibre.",
        "The aorta is not dilated.",
        "Normal course and width of the aorta.",
        "The aorta is normal in diameter.",
        "Thoracic aorta: unremarkable.",
        "Aortic diameter lies within normal limits.",
        "The aorta is of normal width without dissection.",
        "No aneurysm of the thoracic aorta.",
        "Unremarkable aortic arch and descending aorta.",
    ),
    "trachea": (
        "The trachea and main bronchi are patent.",
        "Central airways are clear.",
        "The airway is open down to the segmental level.",
        "Trachea: patent, midline.",
        "The trachea and both main bronchi are open.",
        "The central airways are free of obstruction.",
        "The trachea and the bronchial tree are unremarkable.",
        "No lesion in the trachea or the main bronchi.",
        "Patent trachea and bronchi.",
        "AIRWAYS: patent.",
        "The lumen of the trachea is clear.",
    ),
    "lung": (
        "The lungs are well aerated.",
        "Both lungs are clear.",
        "Lung parenchyma has a normal density.",
        "The lungs are normally expanded.",
        "LUNGS: clear.",
        "Lungs are unremarkable.",
        "No focal abnormality in either lung.",
        "Clear lungs bilaterally.",
        "The pulmonary parenchyma is normal on both sides.",
        "The lungs are free of disease.",
        "Aeration of both lungs is normal.",
        "The lung fields are clear.",
    ),
    "lung_left": (
        "The left lung is clear.",
        "Normal aeration of the left lung.",
        "Left lung: clear.",
        "No abnormality in the left lung.",
        "The left lung is unremarkable.",
        "The left lung is well expanded and clear.",
    ),
    "lung_right": (
        "The right lung is clear.",
        "Normal aeration of the right lung.",
        "Right lung: clear.",
        "No abnormality in the right lung.",
        "The right lung is unremarkable.",
        "The right lung is well expanded and clear.",
    ),
    "mediastinum": (
        "The mediastinum is unremarkable.",
        "Mediastinal contours are normal.",
        "No abnormality in the mediastinum.",
        "MEDIASTINUM: normal.",
        "The mediastinum is midline and of normal width.",
        "Mediastinal structures are within normal limits.",
        "Normal mediastinum.",
        "Mediastinal fat planes are preserved.",
    ),
    "esophagus": (
        "The esophagus is unremarkable.",
        "Normal appearance of the esophagus.",
        "The esophagus has a normal calibre.",
        "Esophagus: normal.",
        "The oesophagus is not dilated.",
        "No esophageal wall thickening.",
        "The thoracic esophagus is within normal limits.",
    ),
    "liver": (
        "The imaged liver is unremarkable.",
        "The liver has a homogeneous density.",
        "Normal upper liver.",
        "Liver: no abnormality in the part that is seen.",
        "The visible liver is normal in density.",
        "The liver parenchyma is uniform.",
        "Hepatic parenchyma is unremarkable as far as included.",
    ),
    "spleen": (
        "The spleen is normal in size.",
        "Unremarkable spleen.",
        "Spleen: normal.",
        "The spleen is not enlarged.",
        "Splenic size is within normal limits.",
        "No abnormality of the spleen.",
    ),
    "spine": (
        "Vertebral bodies keep their height.",
        "The thoracic spine is normally aligned.",
        "No destructive lesion in the vertebrae.",
        "Thoracic spine: normal alignment.",
        "Vertebral body heights are preserved.",
        "The vertebrae are intact.",
        "Thoracic vertebrae are unremarkable.",
        "No compression deformity of the thoracic spine.",
    ),
    "ribs": (
        "The ribs are intact.",
        "No rib fracture is seen.",
        "Bony thorax without fracture.",
        "No fracture of the ribs.",
        "Ribs: no fracture.",
        "The visible ribs are unremarkable.",
        "The rib cage is intact.",
    ),
    "adrenal_gland": (
        "The adrenal glands are normal.",
        "Both adrenal glands are slender.",
        "Adrenal glands: unremarkable.",
        "Normal adrenal glands.",
        "No adrenal nodule.",
        "The adrenals are within normal limits.",
    ),
}
"""Structure -> sentences that call it normal."""

_JOINED: dict[str, str] = {
    "heart": "heart",
    "aorta": "thoracic aorta",
    "trachea": "trachea",
    "mediastinum": "mediastinum",
    "esophagus": "esophagus",
    "liver": "liver",
    "spleen": "spleen",
    "spine": "thoracic spine",
    "ribs": "ribs",
    "adrenal_gland": "adrenal glands",
}
"""Structures that one sentence may call normal together."""
_TOGETHER = (
    "The {first} and the {second} are unremarkable.",
    "The {first} and {second} are normal.",
    "{First} and {second} within normal limits.",
    "Unremarkable {first} and {second}.",
    "Neither the {first} nor the {second} shows an abnormality.",
    "{First} and {second}: no abnormality.",
    "Normal appearance of the {first} and the {second}.",
)


def write_normality(structure: str, rng: np.random.Generator) -> Statement:
    """A sentence that calls `structure` (a key of `NORMALITY`) normal."""
    text = pick(NORMALITY[structure], rng)
    return Statement(text, "", "absent", (structure,), side_of_organs([structure]), None, "normal")


def can_be_joined(structure: str) -> bool:
    """Whether a sentence may call it normal together with another."""
    return structure in _JOINED


def write_shared_normality(structures: tuple[str, str], rng: np.random.Generator) -> Statement:
    """A sentence that calls two structures normal; both must pass `can_be_joined`."""
    first, second = (_JOINED[structure] for structure in structures)
    text = pick(_TOGETHER, rng).format(first=first, First=first.capitalize(), second=second)
    return Statement(text, "", "absent", structures, side_of_organs(structures), None, "normal")
