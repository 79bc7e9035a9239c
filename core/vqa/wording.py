"""Findings, organs and points as a person says them."""

from core.report.organs import names_with_side
from core.report.parsed import Laterality, Mention
from core.report.places import USUAL_ORGANS
from core.structures import spoken_name
from core.vqa.evidence import Point

_PAIRS = {
    ("lung_left", "lung_right"): "both lungs",
    ("pleura_left", "pleura_right"): "both pleural spaces",
    ("kidney_left", "kidney_right"): "both kidneys",
    ("adrenal_gland_left", "adrenal_gland_right"): "both adrenal glands",
    ("lung_upper_lobe_left", "lung_upper_lobe_right"): "both upper lobes",
    ("lung_lower_lobe_left", "lung_lower_lobe_right"): "both lower lobes",
}
_SPOKEN = {
    "pleura_left": "left pleural space",
    "pleura_right": "right pleural space",
    "lung": "lungs",
    "airway": "airways",
    "esophagus": "oesophagus",
    "body": "body wall",
}


def say_finding(finding: str) -> str:
    """ "Lung nodule" -> "lung nodule"."""
    return finding[:1].lower() + finding[1:]


def say_with_article(finding: str) -> str:
    """ "Lung nodule" -> "a lung nodule"; what cannot be counted gets no article."""
    said = say_finding(finding)
    uncounted = ("ema", "osis", "sis", "megaly", "pathy", "ening", "ation", "onia", "tasis", "trapping", "material")
    if said.endswith(uncounted) or said in ("ascites", "pleural effusion + pericardial effusion", "embolism"):
        return said
    return f"{'an' if said[0] in 'aeiou' else 'a'} {said}"


def say_organs(names: tuple[str, ...]) -> str:
    """Structures as a phrase: "left lower lobe", "both lungs", "aorta and heart"."""
    rest = list(dict.fromkeys(names))
    said = []
    for pair, phrase in _PAIRS.items():
        if set(pair) <= set(rest):
            said.append(phrase)
            rest = [name for name in rest if name not in pair]
    said += [_SPOKEN.get(name, spoken_name(name)) for name in rest]
    return said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1] if said else ""


def say_place(names: tuple[str, ...]) -> str:
    """ "in the left lower lobe"; "" for nowhere."""
    said = say_organs(names)
    if not said:
        return ""
    return f"in {said}" if said.startswith("both") else f"in the {said}"


def say_side(side: Laterality) -> str:
    """ "on the left", "on both sides"."""
    return {"left": "on the left", "right": "on the right", "bilateral": "on both sides", "": ""}[side]


def say_point(point_mm: Point) -> str:
    """ "(12, -30, 105) mm" in patient coordinates, RAS+."""
    return "({:.0f}, {:.0f}, {:.0f}) mm".format(*point_mm)


def say_where(finding: str, organs: tuple[str, ...], side: Laterality) -> str:
    """Where a finding is, without what its name says already: "pleural effusion" + "on the right"."""
    usual = {name for part in USUAL_ORGANS.get(finding, ()) for name in names_with_side(part, "")}
    particular = tuple(name for name in organs if name not in usual)
    return say_place(particular) or say_side(side)


def say_mention(mention: Mention) -> str:
    """ "a lung nodule in the left lower lobe, 12 mm"."""
    size = f", {mention.size_mm:g} mm" if mention.size_mm is not None else ""
    where = say_where(mention.finding, mention.organs, mention.laterality)
    return f"{say_with_article(mention.finding)} {where}".strip() + size


def to_sentence(finding: str, organs: tuple[str, ...], side: Laterality) -> str:
    """The finding as a report would claim it, for an engine to ground."""
    return f"There is {say_with_article(finding)} {say_where(finding, organs, side)}".strip() + "."
