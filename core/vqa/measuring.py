"""Volumes, densities and left-right comparisons from organ masks."""

from core.anatomy.measure import OrganMeasure
from core.structures import side_of
from core.vqa.evidence import Answer, CaseEvidence, Evidence, Measurement, abstain
from core.vqa.heart import measure_heart_width
from core.vqa.question import Direction, Question
from core.vqa.wording import say_organs

MEASURED = 0.9
SAME_WITHIN = 0.05
"""Two volumes closer than this share of the larger are called the same: masks are no better."""
SAME_WITHIN_HU = 5.0


def answer_volume(question: Question, case: CaseEvidence) -> Answer:
    """Volume in mL of each organ asked for."""
    return _tell(question, case, "volume")


def answer_density(question: Question, case: CaseEvidence) -> Answer:
    """Mean HU, with its spread, of each organ asked for."""
    return _tell(question, case, "density")


def answer_organ_size(question: Question, case: CaseEvidence) -> Answer:
    """How large an organ is: its volume; for the heart its share of the chest's width too."""
    if question.organs[:1] == ("heart",) and case.masks is not None and case.grid is not None:
        width = measure_heart_width(case.masks, case.grid)
        if width:
            organ, centre = case.place_of(("heart",))
            text = f"On axial CT the heart is {width.heart_mm:.0f} mm wide in a chest of {width.chest_mm:.0f} mm: "
            text += f"cardiothoracic ratio {width.ratio:.2f}."
            volume = case.measure("heart")
            text += f" Its mask holds {volume.volume_ml:,.0f} mL." if volume else ""
            return Answer(
                text, MEASURED, Evidence("masks", organ, centre, Measurement(width.ratio, "cardiothoracic ratio"))
            )
    return _tell(question, case, "volume")


def answer_comparison(question: Question, case: CaseEvidence) -> Answer:
    """Two organs side by side: the two that are named, or the one named and its other side."""
    pair = _pair(question, case)
    if pair is None:
        reason = f"I compare two organs that were measured{_missing(case, question.organs)}."
        return abstain(reason)
    by_density = "dens" in question.text.lower() or "hu" in question.text.lower().split()
    values = [_value(measure, "density" if by_density else "volume") for measure in pair]
    text = _compare(question.wants if question.is_yes_no else "", pair, values, by_density)
    grounds = [
        Evidence("masks", measure.name, measure.centroid_ras_mm, value)
        for measure, value in zip(pair, values, strict=True)
    ]
    if not question.is_yes_no and (question.wants == "larger") == (values[0].value < values[1].value):
        grounds.reverse()  # "which lung is larger": jump to the one that is
    return Answer(text, MEASURED, grounds[0], also=(grounds[1],))


def _tell(question: Question, case: CaseEvidence, what: str) -> Answer:
    if question.finding and not question.organs:
        return abstain(f"no mask holds {question.finding.lower()}; organs are measured, findings are not.")
    if question.finding:
        return abstain(f"organ masks measure organs, not {question.finding.lower()}.")
    measures = [measure for name in question.organs if (measure := case.measure(name))]
    if not measures:
        return abstain(f"the {say_organs(question.organs)} was not measured{_missing(case, question.organs)}.")
    told = "; ".join(_say(measure, what) for measure in measures)
    total = ""
    if len(measures) > 1 and what == "volume":
        total = f"; together {sum(measure.volume_ml for measure in measures):,.0f} mL"
    largest = max(measures, key=lambda measure: measure.volume_ml)
    evidence = Evidence("masks", largest.name, largest.centroid_ras_mm, _value(largest, what))
    engine = f" Masks by {case.masks.engine}." if case.masks else ""
    return Answer(f"{told[:1].upper()}{told[1:]}{total}.{engine}", MEASURED, evidence)


def _say(measure: OrganMeasure, what: str) -> str:
    name = say_organs((measure.name,))
    if what == "volume":
        return f"the {name} measures {_value(measure, what)}"
    return f"the {name} has a mean of {measure.mean_hu:.0f} HU (standard deviation {measure.sd_hu:.0f} HU)"


def _value(measure: OrganMeasure, what: str) -> Measurement:
    return Measurement(measure.volume_ml, "mL") if what == "volume" else Measurement(measure.mean_hu, "HU")


def _missing(case: CaseEvidence, organs: tuple[str, ...]) -> str:
    """Why the masks lack an organ, in their own words."""
    if case.masks is None and not case.measures:
        return ": there are no organ masks"
    reasons = [case.masks.missing[name] for name in organs if name in case.masks.missing] if case.masks else []
    return f": {'; '.join(dict.fromkeys(reasons))}" if reasons else ""


def _pair(question: Question, case: CaseEvidence) -> tuple[OrganMeasure, OrganMeasure] | None:
    """The organ asked about first, then what it is compared with."""
    names = list(question.organs)
    if len(names) == 1 and side_of(names[0]):
        names.append(_mirrored(names[0]))
    if question.side in ("left", "right") and len(names) == 2:
        names.sort(key=lambda name: side_of(name) != question.side)
    measures = [case.measure(name) for name in names]
    if len(measures) != 2 or measures[0] is None or measures[1] is None:
        return None
    return measures[0], measures[1]


def _mirrored(name: str) -> str:
    side = side_of(name)
    return name.replace(f"_{side}", f"_{'right' if side == 'left' else 'left'}")


def _compare(
    wants: Direction, pair: tuple[OrganMeasure, OrganMeasure], values: list[Measurement], by_density: bool
) -> str:
    """The two numbers, and a yes or no where one was asked for."""
    first, second = (say_organs((measure.name,)) for measure in pair)
    a, b = values
    numbers = f"the {first} has {a}, the {second} {b}"
    if is_same(a, b):
        word = "About the same"
        return (
            f"{'Yes: about' if wants == 'equal' else word if not wants else 'No: about'} the same; {numbers}.".replace(
                "About the same the same", "About the same"
            )
        )
    smaller, larger = (first, second) if a.value < b.value else (second, first)
    kind = "less dense" if by_density else "smaller"
    share = "" if by_density else f" by {1 - min(a.value, b.value) / max(a.value, b.value):.0%}"
    return f"{_verdict(wants, a.value < b.value)}The {smaller} is {kind} than the {larger}{share}: {numbers}."


def _verdict(wants: Direction, first_is_smaller: bool) -> str:
    if not wants:
        return ""
    return "Yes. " if (wants == "smaller") == first_is_smaller and wants != "equal" else "No. "


def is_same(a: Measurement, b: Measurement) -> bool:
    """Whether two measurements differ by less than masks can tell."""
    if a.unit == "HU":
        return abs(a.value - b.value) <= SAME_WITHIN_HU
    return abs(a.value - b.value) <= SAME_WITHIN * max(a.value, b.value)
