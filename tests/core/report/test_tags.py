"""Words for findings become tags of image models."""

import pytest

from core.findings import CT_RATE_LABELS
from core.report.tags import CT_TAGS, fold_finding


def test_the_tags_are_forty_and_begin_with_the_labels():
    assert len(CT_TAGS) == len(set(CT_TAGS)) == 40
    assert CT_TAGS[:18] == CT_RATE_LABELS


@pytest.mark.parametrize("tag", CT_TAGS)
def test_every_tag_means_itself(tag):
    assert fold_finding(tag) == (tag,)


@pytest.mark.parametrize(
    ("finding", "place", "tags"),
    [
        ("nodule(s)", "left lung", ("Lung nodule",)),
        ("nodules", "thyroid", ("thyroid nodule",)),
        ("mass", "liver", ("liver lesion",)),
        ("space-occupying lesion", "liver", ("liver lesion",)),
        ("occlusive pathology", "trachea", ("airway obstruction",)),
        ("wall thickening", "esophagus", ("wall thickening",)),
        ("enlarged lymph nodes", "mediastinum", ("Lymphadenopathy",)),
        ("atheroma plaques", "aorta", ("Arterial wall calcification",)),
        ("calcification", "coronary artery", ("Coronary artery wall calcification",)),
        ("ground-glass", "lung", ("Lung opacity",)),
        ("osteophytes", "bone", ("degenerative change",)),
        ("hepatosteatosis", "", ("hepatic steatosis",)),
        ("pleural effusion, pneumothorax", "pleura", ("Pleural effusion", "pneumothorax")),
        ("cysts", "kidney", ("renal lesion",)),
        ("something else", "lung", ()),
        ("", "", ()),
    ],
)
def test_synonyms_fold_with_the_place_they_were_seen_in(finding, place, tags):
    assert fold_finding(finding, place) == tags
