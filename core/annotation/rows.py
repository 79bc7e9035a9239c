"""Between rows of the database and the records they hold."""

import json
from typing import Any

import sqlalchemy as sa

from core.annotation.records import Action, Annotation, Change, Evidence, SentenceRef, require_verdict
from core.annotation.regions import (
    BoxRegion,
    MaskRegion,
    Region,
    StoredRegion,
    decode_grid,
    decode_mask,
    encode_grid,
)
from core.export.nifti import nifti_bytes


def change_values(content_hash: str, key: str, author: str, action: Action, at_utc: str) -> dict[str, Any]:
    """Columns that every change has."""
    return {"content_hash": content_hash, "sentence_key": key, "author": author, "action": action, "at_utc": at_utc}


def read_annotation(row: sa.RowMapping) -> Annotation:
    """The annotation in a row of its table."""
    return Annotation(
        content_hash=row["content_hash"],
        sentence=SentenceRef(row["sentence_index"], row["sentence_text"]),
        author=row["author"],
        verdict=require_verdict(row["verdict"]),
        note=row["note"],
        evidence=Evidence(**json.loads(row["evidence"])) if row["evidence"] else None,
        created_utc=row["created_utc"],
        updated_utc=row["updated_utc"],
    )


def read_change(row: sa.RowMapping) -> Change:
    """The change in a row of its table."""
    return Change(
        number=row["id"],
        content_hash=row["content_hash"],
        author=row["author"],
        action=row["action"],
        at_utc=row["at_utc"],
        before=json.loads(row["before"]) if row["before"] else None,
        after=json.loads(row["after"]) if row["after"] else None,
        region=row["region_id"],
        undoes=row["undoes"],
    )


def region_values(region: Region) -> dict[str, Any]:
    """Columns that place and draw a region."""
    if isinstance(region, BoxRegion):
        box = json.dumps({"low_mm": region.low_mm, "high_mm": region.high_mm})
        return {"grid": encode_grid(region.grid), "box_mm": box}
    return {"grid": encode_grid(region.grid), "mask": nifti_bytes(region.mask, region.grid)}


def read_region(row: sa.RowMapping) -> StoredRegion:
    """The region in a row of its table, its mask unpacked. Raises AnnotationError when that is damaged."""
    grid = decode_grid(row["grid"])
    shape: Region
    if row["box_mm"]:
        box = json.loads(row["box_mm"])
        shape = BoxRegion(tuple(box["low_mm"]), tuple(box["high_mm"]), grid)
    else:
        shape = MaskRegion(decode_mask(row["mask"], grid), grid)
    sentence = SentenceRef(row["sentence_index"], row["sentence_text"])
    return StoredRegion(row["id"], row["content_hash"], sentence, row["author"], row["created_utc"], shape)
