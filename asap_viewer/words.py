"""Case data as the panels want it: plain JSON, numbers with units. No gradio."""

from collections.abc import Mapping, Sequence
from typing import Any

from asap_viewer.engines import State
from core.anatomy.masks import OrganMasks
from core.anatomy.measure import OrganMeasure
from core.grounding.heatmap import SentenceGrounding
from core.grounding.normality import OrganDistance
from core.reading.receipt import Receipt, SeriesRow
from core.reading.study import Study
from core.report.parsed import ParsedReport, Sentence
from core.structures import BY_NAME, GROUPS, spoken_name
from core.vqa.evidence import Answer

UNKNOWN_COLOUR = "#9aa6b4"


def fact(label: str, value: str, kind: str = "plain") -> dict[str, str]:
    """One row of a facts panel."""
    return {"label": label, "value": value, "kind": kind}


def receipt_rows(study: Study) -> list[dict[str, str]]:
    """What was opened, and what a reader should know before trusting it."""
    receipt = study.receipt
    spacing = " × ".join(f"{size:.2f}" for size in receipt.spacing_mm)
    rows = [
        fact("series", receipt.series_description or "no description"),
        fact("voxels", f"{' × '.join(str(n) for n in receipt.shape)} at {spacing} mm"),
        fact(
            "orientation", f"{receipt.orientation} in the file, {receipt.obliqueness_deg:.1f}° off the patient's axes"
        ),
        _hu_fact(receipt),
    ]
    if study.dicom_headers is not None:  # a series with gaps, doubled slices or a tilted gantry is refused
        rows.insert(2, fact("slices", f"{receipt.slices}, evenly spaced: no gap, none doubled, no gantry tilt"))
    if len(receipt.series) > 1:
        others = f"{len(receipt.series) - 1} more in the upload, listed above"
        rows.insert(1, fact("other series", others))
    rows += [fact("done", done) for done in receipt.done]
    rows += [fact("note", note, "warning") for note in receipt.warnings]
    return rows


def _hu_fact(receipt: Receipt) -> dict[str, str]:
    span = f"{receipt.hu_min} to {receipt.hu_max}"
    if receipt.hu_verdict.is_plausible:
        return fact("HU", f"{span}, plausible", "good")
    return fact("HU", f"{span}, not plausible: see the note", "warning")


def series_rows(rows: Sequence[SeriesRow]) -> list[dict[str, Any]]:
    """The table of series; the one that is open says so, the others why not."""
    return [
        {
            "id": row.id,
            "description": row.description or f"series {number}, no description",
            "modality": row.modality,
            "slices": row.slices,
            "spacing": " × ".join(f"{size:.2g}" for size in row.spacing_mm) if all(row.spacing_mm) else "",
            "usable": row.usable,
            "reason": row.reason,
            "chosen": row.chosen,
        }
        for number, row in enumerate(rows, start=1)
    ]


def organ_rows(masks: OrganMasks, measures: Sequence[OrganMeasure]) -> list[dict[str, Any]]:
    """The organ tree: one row per structure of the label map, with mL and mean HU."""
    measured = {one.name: one for one in measures}
    present = [BY_NAME[name] for name in masks.names() if name in measured]
    present.sort(key=lambda row: GROUPS.index(row.group))
    return [
        {
            "number": row.number,
            "name": row.name,
            "spoken": spoken_name(row.name),
            "group": row.group,
            "colour": row.colour,
            "volume_ml": measured[row.name].volume_ml,
            "mean_hu": measured[row.name].mean_hu,
            "centroid": list(measured[row.name].centroid_ras_mm),
        }
        for row in present
    ]


def place_words(point_mm: Sequence[float]) -> str:
    """A patient point (3,) in RAS mm as a radiologist says it: "L 45, P 87, I 120 mm"."""
    letters = (pair[value < 0] for pair, value in zip(("RL", "AP", "SI"), point_mm, strict=True))
    return ", ".join(f"{letter} {abs(value):.0f}" for letter, value in zip(letters, point_mm, strict=True)) + " mm"


MOST_OF_SENTENCE = 80
"""Characters of a sentence in the legend of its heat."""


def support_mark(existence: str, support: str) -> str:
    """A verdict in the words of a tag; "" where there is none."""
    if support == "no support":
        return "the scan speaks against this denial" if existence == "absent" else "no support in this scan"
    return "supported by this scan" if support == "supported" else ""


def normality_rows(organs: Mapping[str, OrganDistance]) -> list[dict[str, str]]:
    """How far each organ is from normal, and where it is farthest; a number compares places of one organ only."""
    words = "farthest {0:.3f} at {1}, mean {2:.3f}"
    rows = [
        fact(spoken_name(name), words.format(one.highest, place_words(one.peak_ras_mm), one.mean))
        for name, one in organs.items()
    ]
    return [*rows, fact("note", "Distances in the model's own space: they compare places of one organ, no more.")]


def heat_label(sentence: str, engine: str) -> str:
    """What the legend of a heat map says after "Heat: ": of which sentence it is, and whose."""
    shown = sentence if len(sentence) <= MOST_OF_SENTENCE else f"{sentence[:MOST_OF_SENTENCE].rsplit(' ', 1)[0]} …"
    return f"{shown} · by {engine}"


def engine_rows(states: Sequence[State]) -> list[dict[str, str]]:
    """Every engine and whether it can run, those that can first."""
    rows = []
    for state in sorted(states, key=lambda one: not one.can_run):
        can = "can run here" if state.can_run else f"cannot run here: {state.lacks}"
        rows.append(fact(state.name, f"{state.what} · {can}", "good" if state.can_run else "plain"))
    return rows


def organ_chip(name: str) -> dict[str, str]:
    """An organ's spoken name and colour."""
    return {"spoken": spoken_name(name), "colour": BY_NAME[name].colour if name in BY_NAME else UNKNOWN_COLOUR}


def sentence_rows(
    report: ParsedReport,
    groundings: Sequence[SentenceGrounding],
    verdicts: dict[int, tuple[str, str]],
    is_pending: bool = False,
) -> list[dict[str, Any]]:
    """The report panel: every sentence with what it says, where it is and what was thought of it."""
    found = {one.index: one for one in groundings}
    return [
        _sentence_row(sentence, found.get(sentence.index))
        | {
            "verdict": verdicts.get(sentence.index, ("", ""))[0],
            "note": verdicts.get(sentence.index, ("", ""))[1],
            "pending": is_pending,
        }
        for sentence in report.sentences
    ]


def _sentence_row(sentence: Sentence, grounding: SentenceGrounding | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "index": sentence.index,
        "text": sentence.text,
        "existence": sentence.existence,
        "finding": ", ".join(dict.fromkeys(mention.finding for mention in sentence.mentions)),
        "organs": [organ_chip(name) for name in sentence.organs[:4]],
    }
    if grounding is not None:
        row |= {
            "peak": [round(value, 1) for value in grounding.peak_ras_mm],
            "score": round(grounding.score, 4),
            "margin": round(grounding.margin, 4),
            "probability": round(grounding.probability, 4),
            "support": grounding.support,
            "mark": support_mark(sentence.existence, grounding.support),
            "why": grounding.judgement.words if grounding.judgement else "",
            "kept": grounding.constraint.words,
            "is_spot": grounding.is_spot,
            "shares": [organ_chip(name) | {"share": share} for name, share in list(grounding.organs.items())[:4]],
        }
    return row


def answer_row(question: str, answer: Answer) -> dict[str, Any]:
    """An answer for its panel; `mm` is where the viewer jumps."""
    ground = answer.evidence
    return {
        "question": question,
        "answer": answer.text,
        "confidence": answer.confidence,
        "abstained": answer.abstained,
        "source": ground.label,
        "measurement": str(ground.measurement) if ground.measurement else "",
        "organ": spoken_name(ground.organ) if ground.organ else "",
        "mm": [float(value) for value in ground.peak_ras_mm] if ground.peak_ras_mm else None,
    }
