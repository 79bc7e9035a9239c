"""What a generated sentence claims, and the table of finding kinds the data engine knows. Plain data."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from core.report.parsed import Existence, Laterality
from core.structures import LOBES, side_of

Place = Literal["lobe", "pleura", "organ", "paired"]
"""Where a kind lives: in lobes it can choose, in the pleural space of a side, in one fixed organ, in one of a pair."""


class Kind(NamedTuple):
    """One kind of finding: what it is called, where it occurs, how large it gets."""

    finding: str
    """CT-RATE label where one fits, else a lower-case noun phrase."""
    nouns: tuple[str, ...]
    """Ways to say it, singular, without article; the first is the plainest."""
    plurals: tuple[str, ...]
    """Ways to deny it: "No <plural>"."""
    place: Place
    organs: tuple[str, ...]
    """Structures it may lie in (`lobe`), or the structures that are named with it."""
    sizes_mm: tuple[float, float] | None = None
    """Range of diameters worth measuring; None: no one measures it."""
    grades: tuple[str, ...] = ()
    """Adjectives of extent, smallest first."""
    is_countable: bool = True
    """Takes "a"; an effusion does too, "consolidation" does not."""
    phrases: tuple[str, ...] = ()
    """Ways to say where, for kinds that live in an organ; {side} stands for the side of a pair."""


_EXTENT = ("minimal", "mild", "moderate", "extensive")
_AMOUNT = ("trace", "small", "moderate", "large")
_DEGREE = ("mild", "moderate", "marked")

KINDS: dict[str, Kind] = {
    "solid nodule": Kind(
        "Lung nodule",
        (
            "nodule",
            "solid nodule",
            "solid pulmonary nodule",
            "pulmonary nodule",
            "rounded nodular density",
            "lung nodule",
            "nodular opacity",
            "well-defined nodule",
            "round nodular lesion",
            "noncalcified nodule",
            "parenchymal nodule",
            "smooth nodule",
            "nodular focus",
        ),
        (
            "pulmonary nodules",
            "lung nodules",
            "suspicious nodules",
            "solid nodules",
            "nodules",
            "pulmonary nodule",
            "nodular lesions",
            "focal pulmonary nodules",
        ),
        "lobe",
        LOBES,
        (5, 28),
    ),
    "spiculated nodule": Kind(
        "Lung nodule",
        (
            "spiculated nodule",
            "nodule with spiculated margins",
            "irregular spiculated nodule",
            "stellate nodule",
            "spiculated pulmonary nodule",
            "nodule with irregular borders",
            "nodule with radiating strands",
            "ill-defined spiculated nodule",
        ),
        ("spiculated nodules", "nodules with spiculated margins", "spiculated nodule"),
        "lobe",
        LOBES,
        (9, 30),
    ),
    "ground-glass nodule": Kind(
        "Lung nodule",
        (
            "ground-glass nodule",
            "nonsolid nodule",
            "pure ground-glass nodule",
            "faint ground-glass nodule",
            "nodule of ground-glass density",
            "hazy nodule",
            "non-solid nodule",
        ),
        ("ground-glass nodules", "nonsolid nodules", "pure ground-glass nodules"),
        "lobe",
        LOBES,
        (6, 28),
    ),
    "part-solid nodule": Kind(
        "Lung nodule",
        (
            "part-solid nodule",
            "subsolid nodule",
            "mixed-density nodule",
            "nodule with a solid core and a hazy rim",
            "semisolid nodule",
            "partly solid nodule",
            "part-solid pulmonary nodule",
        ),
        ("part-solid nodules", "subsolid nodules", "semisolid nodules"),
        "lobe",
        LOBES,
        (10, 28),
    ),
    "calcified nodule": Kind(
        "Lung nodule",
        (
            "calcified nodule",
            "calcified granuloma",
            "densely calcified nodule",
            "calcified pulmonary nodule",
            "calcific nodule",
        ),
        ("calcified nodules", "calcified granulomas", "calcific nodules"),
        "lobe",
        LOBES,
        (4, 14),
    ),
    "cavitary nodule": Kind(
        "Lung nodule",
        (
            "cavitary nodule",
            "cavitating nodule",
            "thick-walled cavity",
            "cavitary lesion",
            "cavitated nodule",
            "nodule with central cavitation",
        ),
        ("cavitary nodules", "cavities", "cavitary lesions", "cavitation"),
        "lobe",
        LOBES,
        (14, 40),
    ),
    "mass": Kind(
        "lung mass",
        (
            "mass",
            "pulmonary mass",
            "lobulated mass",
            "soft tissue mass",
            "large mass lesion",
            "lung mass",
            "mass lesion",
            "irregular mass",
            "bulky mass",
            "tumor",
            "space-occupying mass",
        ),
        ("masses", "mass lesions", "pulmonary masses", "mass", "lung mass", "pulmonary mass"),
        "lobe",
        LOBES,
        (31, 90),
    ),
    "consolidation": Kind(
        "Consolidation",
        (
            "consolidation",
            "airspace consolidation",
            "alveolar consolidation",
            "confluent airspace disease",
            "consolidative change",
            "area of consolidation",
            "consolidated lung",
            "airspace disease",
            "parenchymal consolidation",
            "lobar consolidation",
        ),
        (
            "consolidation",
            "airspace consolidation",
            "pneumonic consolidation",
            "consolidative change",
            "focal consolidation",
            "areas of consolidation",
            "airspace disease",
        ),
        "lobe",
        LOBES,
        None,
        ("patchy", "focal", "dense", "extensive"),
        is_countable=False,
    ),
    "ground-glass opacity": Kind(
        "Lung opacity",
        (
            "ground-glass opacity",
            "ground-glass opacification",
            "hazy opacity",
            "ground-glass attenuation",
            "ground glass",
            "area of ground-glass density",
            "ground-glass change",
            "hazy ground-glass opacity",
            "ground-glass density",
            "veil-like opacity",
        ),
        (
            "ground-glass opacities",
            "ground-glass opacity",
            "hazy opacities",
            "ground-glass change",
            "areas of ground-glass density",
        ),
        "lobe",
        LOBES,
        None,
        ("faint", "patchy", "diffuse", "extensive"),
        is_countable=False,
    ),
    "atelectasis": Kind(
        "Atelectasis",
        (
            "atelectasis",
            "linear atelectasis",
            "subsegmental atelectasis",
            "plate-like atelectasis",
            "atelectatic change",
            "band of atelectasis",
            "segmental atelectasis",
            "discoid atelectasis",
            "dependent atelectasis",
            "compressive atelectasis",
        ),
        ("atelectasis", "atelectatic change", "collapsed lung", "atelectatic changes"),
        "lobe",
        LOBES,
        None,
        _EXTENT,
        is_countable=False,
    ),
    "emphysema": Kind(
        "Emphysema",
        (
            "emphysema",
            "centrilobular emphysema",
            "emphysematous change",
            "emphysematous destruction",
            "emphysematous lung disease",
            "pulmonary emphysema",
            "paraseptal emphysema",
            "bullous emphysema",
        ),
        ("emphysema", "emphysematous changes", "bullae", "pulmonary emphysema"),
        "lobe",
        LOBES,
        None,
        _DEGREE,
        is_countable=False,
    ),
    "fibrotic band": Kind(
        "Pulmonary fibrotic sequela",
        (
            "fibrotic band",
            "parenchymal band",
            "linear scar",
            "fibrotic scar",
            "band-like fibrotic sequela",
            "fibrous strand",
            "scar-like band",
            "pleuroparenchymal band",
            "linear fibrotic change",
        ),
        ("fibrotic bands", "parenchymal scarring", "fibrotic sequelae", "fibrotic change", "scarring"),
        "lobe",
        LOBES,
    ),
    "bronchial wall thickening": Kind(
        "Peribronchial thickening",
        (
            "bronchial wall thickening",
            "peribronchial thickening",
            "peribronchial cuffing",
            "thickening of the bronchial walls",
            "thickened bronchial walls",
            "bronchial cuffing",
            "peribronchovascular thickening",
        ),
        (
            "bronchial wall thickening",
            "peribronchial thickening",
            "peribronchial cuffing",
            "thickening of the bronchial walls",
        ),
        "lobe",
        LOBES,
        None,
        _DEGREE,
        is_countable=False,
    ),
    "bronchiectasis": Kind(
        "Bronchiectasis",
        (
            "bronchiectasis",
            "cylindrical bronchiectasis",
            "bronchial dilatation",
            "dilated bronchi",
            "bronchiectatic change",
            "tubular bronchiectasis",
            "ectatic bronchi",
            "bronchial ectasia",
        ),
        ("bronchiectasis", "bronchial dilatation", "dilated bronchi", "bronchiectatic change"),
        "lobe",
        LOBES,
        None,
        _DEGREE,
        is_countable=False,
    ),
    "septal thickening": Kind(
        "Interlobular septal thickening",
        (
            "interlobular septal thickening",
            "septal thickening",
            "thickening of the interlobular septa",
            "thickened interlobular septa",
            "smooth septal thickening",
            "prominent septal thickening",
        ),
        (
            "interlobular septal thickening",
            "septal thickening",
            "thickened interlobular septa",
            "thickening of the interlobular septa",
        ),
        "lobe",
        LOBES,
        None,
        _DEGREE,
        is_countable=False,
    ),
    "mosaic attenuation": Kind(
        "Mosaic attenuation pattern",
        (
            "mosaic attenuation",
            "mosaic attenuation pattern",
            "mosaic perfusion",
            "mosaic pattern",
            "mosaic pattern of attenuation",
            "mosaic appearance",
        ),
        ("mosaic attenuation", "mosaic perfusion", "mosaic pattern", "mosaic attenuation pattern"),
        "lobe",
        LOBES,
        None,
        _DEGREE,
        is_countable=False,
    ),
    "pleural effusion": Kind(
        "Pleural effusion",
        (
            "pleural effusion",
            "effusion",
            "pleural fluid collection",
            "pleural fluid",
            "fluid in the pleural space",
            "pleural collection",
            "free pleural fluid",
            "layering pleural effusion",
        ),
        ("pleural effusion", "pleural fluid", "effusion", "pleural effusions", "pleural collection"),
        "pleura",
        ("pleura_left", "pleura_right"),
        (8, 70),
        _AMOUNT,
    ),
    "pneumothorax": Kind(
        "pneumothorax",
        ("pneumothorax", "collection of pleural air", "free pleural air", "pleural air", "air in the pleural space"),
        ("pneumothorax", "pleural air", "air in the pleural space", "free pleural air"),
        "pleura",
        ("pleura_left", "pleura_right"),
        (6, 40),
        _AMOUNT,
    ),
    "cardiomegaly": Kind(
        "Cardiomegaly",
        (
            "cardiomegaly",
            "cardiac enlargement",
            "enlargement of the heart",
            "enlarged heart",
            "increased heart size",
            "increase in cardiac size",
        ),
        ("cardiomegaly", "cardiac enlargement", "enlargement of the heart"),
        "organ",
        ("heart",),
        None,
        _DEGREE,
        is_countable=False,
    ),
    "pericardial effusion": Kind(
        "Pericardial effusion",
        (
            "pericardial effusion",
            "pericardial fluid collection",
            "fluid around the heart",
            "pericardial fluid",
            "fluid in the pericardial sac",
            "effusion in the pericardial space",
        ),
        ("pericardial effusion", "pericardial fluid", "fluid around the heart"),
        "organ",
        ("heart",),
        (5, 30),
        _AMOUNT,
    ),
    "coronary calcification": Kind(
        "Coronary artery wall calcification",
        (
            "coronary artery calcification",
            "coronary calcification",
            "calcified coronary plaque",
            "calcific coronary atheroma",
            "coronary atherosclerosis",
            "calcification of the coronary arteries",
            "calcified plaque in the coronary arteries",
            "coronary arterial calcification",
        ),
        (
            "coronary calcification",
            "coronary artery calcifications",
            "coronary plaque",
            "coronary atherosclerosis",
            "calcified coronary plaque",
        ),
        "organ",
        ("heart",),
        None,
        _DEGREE,
        is_countable=False,
    ),
    "aortic calcification": Kind(
        "Arterial wall calcification",
        (
            "aortic calcification",
            "calcified aortic plaque",
            "mural calcification of the aorta",
            "aortic wall calcification",
            "aortic atherosclerosis",
            "calcified plaque of the aorta",
            "atherosclerotic calcification of the aorta",
            "atheromatous plaque in the aorta",
        ),
        ("aortic calcification", "aortic wall calcifications", "aortic plaque", "aortic atherosclerosis"),
        "organ",
        ("aorta",),
        None,
        _DEGREE,
        is_countable=False,
    ),
    "lymph node": Kind(
        "Lymphadenopathy",
        (
            "enlarged mediastinal lymph node",
            "enlarged lymph node",
            "pathologically enlarged lymph node",
            "mediastinal adenopathy",
            "mediastinal lymphadenopathy",
            "lymphadenopathy",
            "enlarged mediastinal node",
            "prominent mediastinal lymph node",
        ),
        (
            "enlarged lymph nodes",
            "lymphadenopathy",
            "mediastinal adenopathy",
            "pathologic lymph nodes",
            "enlarged mediastinal lymph nodes",
            "pathologically enlarged lymph nodes",
            "mediastinal lymphadenopathy",
        ),
        "organ",
        ("mediastinum",),
        (11, 32),
    ),
    "hiatal hernia": Kind(
        "Hiatal hernia",
        (
            "hiatal hernia",
            "hiatus hernia",
            "sliding hiatal hernia",
            "gastric herniation through the hiatus",
            "herniation of the stomach",
            "sliding-type hiatal hernia",
        ),
        ("hiatal hernia", "hiatus hernia"),
        "organ",
        ("esophagus",),
        None,
        ("small", "moderate", "large"),
    ),
    "hilar lymph node": Kind(
        "Lymphadenopathy",
        (
            "enlarged hilar lymph node",
            "hilar adenopathy",
            "hilar lymphadenopathy",
            "pathologically enlarged hilar node",
        ),
        ("enlarged hilar lymph nodes", "hilar adenopathy", "hilar lymphadenopathy"),
        "paired",
        ("lung_left", "lung_right"),
        (11, 32),
        phrases=("at the {side} hilum", "in the {side} hilum", "in the {side} hilar region"),
    ),
    "axillary lymph node": Kind(
        "Lymphadenopathy",
        ("enlarged axillary lymph node", "axillary adenopathy", "axillary lymphadenopathy", "prominent axillary node"),
        ("enlarged axillary lymph nodes", "axillary adenopathy", "axillary lymphadenopathy"),
        "organ",
        ("body",),
        (11, 32),
        phrases=("", "in the axilla", "in the axillary region"),
    ),
    "fibrotic reticulation": Kind(
        "Pulmonary fibrotic sequela",
        (
            "reticulation",
            "subpleural reticulation",
            "fibrotic reticulation",
            "subpleural fibrosis",
            "fibrotic change",
        ),
        ("reticulation", "fibrotic reticulation", "fibrotic change", "interstitial fibrosis"),
        "lobe",
        LOBES,
        None,
        _DEGREE,
        is_countable=False,
    ),
    "central venous catheter": Kind(
        "Medical material",
        (
            "central venous catheter",
            "central line",
            "central venous line",
            "indwelling central catheter",
            "venous port catheter",
        ),
        ("central venous catheters", "central lines", "indwelling catheters"),
        "organ",
        ("mediastinum",),
        phrases=("", "ending in the superior vena cava", "with its tip near the cavoatrial junction"),
    ),
    "sternal wires": Kind(
        "Medical material",
        ("sternal wire", "sternotomy wire", "sternal cerclage wire", "median sternotomy wire"),
        ("sternal wires", "sternotomy wires", "sternal cerclage wires"),
        "organ",
        ("sternum",),
        phrases=("", "in the sternum", "along the sternum"),
    ),
    "aortic stent graft": Kind(
        "Medical material",
        ("aortic stent graft", "endovascular stent graft", "aortic stent", "endovascular aortic stent"),
        ("aortic stent grafts", "aortic stents"),
        "organ",
        ("aorta",),
        phrases=("", "in the descending aorta", "in the thoracic aorta"),
    ),
    "coronary stent": Kind(
        "Medical material",
        ("coronary stent", "coronary artery stent", "stent in a coronary artery"),
        ("coronary stents", "coronary artery stents"),
        "organ",
        ("heart",),
    ),
    "pacemaker lead": Kind(
        "Medical material",
        (
            "pacemaker lead",
            "cardiac pacing lead",
            "pacing wire",
            "metallic device lead",
            "pacemaker electrode",
            "cardiac device lead",
            "pacing electrode",
        ),
        ("pacemaker leads", "indwelling devices", "medical devices", "pacemaker", "implanted cardiac device"),
        "organ",
        ("heart",),
    ),
    "liver cyst": Kind(
        "liver lesion",
        (
            "hepatic cyst",
            "liver cyst",
            "simple hepatic cyst",
            "low-density liver lesion",
            "hypodense liver lesion",
            "cystic liver lesion",
        ),
        ("focal liver lesions", "hepatic lesions", "liver cysts", "hypodense liver lesions"),
        "organ",
        ("liver",),
        (10, 45),
    ),
}
"""Kind name -> what is known of it."""


@dataclass(frozen=True)
class Claim:
    """One statement about one finding, before it is put into words."""

    kind: str
    """A key of `KINDS`."""
    existence: Existence
    organs: tuple[str, ...] = ()
    """Names of `core.structures`; empty: the whole chest."""
    laterality: Laterality = ""
    size_mm: float | None = None
    """Largest diameter (for fluid and air: largest thickness) in mm."""
    second_mm: float | None = None
    """Diameter across, when two are given."""
    grade: int | None = None
    """Index into the kind's grades."""
    zones: tuple[str, ...] = ()
    """Words of `core.synthesis.places.ZONES` that are true of where in its lobe it lies."""
    third_mm: float | None = None
    """The third diameter, where it is known too."""

    @property
    def finding(self) -> str:
        """The finding as `core.report` names it."""
        return KINDS[self.kind].finding


def side_of_organs(organs: Iterable[str]) -> Laterality:
    """ "left", "right", "bilateral" or "" from structure names."""
    sides = {side_of(name) for name in organs} - {""}
    if len(sides) == 2:
        return "bilateral"
    return "left" if sides == {"left"} else "right" if sides == {"right"} else ""


def swap_side_name(structure: str) -> str:
    """The structure of the other side; a left lung has no middle lobe, so that becomes the upper lobe (lingula)."""
    if structure == "lung_middle_lobe_right":
        return "lung_upper_lobe_left"
    if "left" in structure:
        return structure.replace("left", "right")
    return structure.replace("right", "left")


_OTHER_SIDE: dict[Laterality, Laterality] = {"left": "right", "right": "left", "bilateral": "bilateral", "": ""}


def mirror_claim(claim: Claim) -> Claim:
    """The claim as it holds in the mirrored patient: left and right exchanged everywhere."""
    organs = tuple(dict.fromkeys(swap_side_name(name) for name in claim.organs))
    is_middle = claim.organs == ("lung_middle_lobe_right",)
    zones = ("lingular",) if is_middle else tuple(zone for zone in claim.zones if zone != "lingular")
    return replace(claim, organs=organs, laterality=_OTHER_SIDE[claim.laterality], zones=zones)


def negate_claim(claim: Claim) -> Claim:
    """The claim with presence and absence exchanged; measurements of what is not there are dropped."""
    if claim.existence == "absent":
        return replace(claim, existence="present")
    return replace(claim, existence="absent", size_mm=None, second_mm=None, third_mm=None, grade=None, zones=())
