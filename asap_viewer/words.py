"""Case data as the panels want it: plain JSON, numbers with units. No gradio."""

from collections.abc import Sequence
from typing import Any

from asap_viewer.engines import State
from core.anatomy.masks import OrganMasks
from core.anatomy.measure import OrganMeasure
from core.grounding.heatmap import SentenceGrounding
from core.reading.receipt import Receipt
from core.report.parsed import ParsedReport, Sentence
from core.structures import BY_NAME, GROUPS, spoken_name
from core.vqa.evidence import Answer

UNKNOWN_COLOUR = "#9aa6b4"


def fact(label: str, value: str, kind: str = "plain") -> dict[str, str]:
    """One row of a facts panel."""
    return {"label": label, "value": value, "kind": kind}


def receipt_rows(receipt: Receipt) -> list[dict[str, str]]:
    """What was opened, and what a reader should know before trusting it."""
    spacing = " × ".join(f"{size:.2f}" for size in receipt.spacing_mm)
    rows = [
        fact("series", receipt.series_description or "no description"),
        fact("voxels", f"{' × '.join(str(n) for n in receipt.shape)} at {spacing} mm"),
        fact(
            "orientation", f"{receipt.orientation} in the file, {receipt.obliqueness_deg:.1f}° off the patient's axes"
        ),
        fact("HU", f"{receipt.hu_min} to {receipt.hu_max}"),
    ]
    rows += [fact("done", done) for done in receipt.done]
    rows += [fact("note", note, "warning") for note in receipt.warnings]
    return rows


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


SUPPORT_WORDS = {
    "supported": "supported by this scan",
    "no support": "no support in this scan",
    "cannot tell": "this engine cannot tell whether it is so",
}


def engine_rows(states: Sequence[State]) -> list[dict[str, str]]:
    """Every engine and whether it can run."""
    rows = []
    for state in states:
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
            "support_words": SUPPORT_WORDS[grounding.support],
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
