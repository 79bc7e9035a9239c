"""Triplets of reports become tags and sentence-organ pairs."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError
from core.organ_map import ORGAN_MAPS
from core.retrieval.table import ReportRow
from trainers.builders.files import Triplet
from trainers.crops import Crop
from trainers.triplets import TripletFields, keep_deepest, mirror_organs, sentence_organs, tag_row

ASG, LOBES = ORGAN_MAPS["asg"], ORGAN_MAPS["asg_lobes"]
HEADER = "study_id,region_path,finding,existence,sentence_idx\n"
FINDINGS = "The heart is enlarged. There is a nodule in the left lower lobe."
IMPRESSION = "Effusion beside both lungs and the esophagus. Follow up."


def write(tmp_path: Path, *rows: str) -> Path:
    (tmp_path / "triplets.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return tmp_path


def test_only_the_deepest_of_rows_that_say_the_same_is_kept():
    outer, inner = Triplet("lung", "Nodule", 1, 2), Triplet("lung/left lung", "nodule", 1, 2)
    beside, other = Triplet("lung/right lung", "nodule", 1, 2), Triplet("lung", "mass", 1, 2)
    denied, elsewhere = Triplet("lung", "nodule", 0, 2), Triplet("lung", "nodule", 1, 3)
    everywhere = Triplet("", "nodule", 1, 0)
    rows = [outer, inner, beside, other, denied, elsewhere, everywhere, inner]
    assert keep_deepest(rows) == [inner, beside, other, denied, elsewhere]
    assert keep_deepest([outer, denied]) == [outer, denied]
    assert keep_deepest([Triplet("lun", "a", 1, 0), Triplet("lung", "a", 1, 0)]) != [Triplet("lung", "a", 1, 0)]


def test_present_outweighs_denied_and_uncertain_is_not_mentioned():
    tags = ("Lung nodule", "Cardiomegaly", "pneumothorax", "thyroid nodule", "Pleural effusion")
    rows = [
        Triplet("lung/left lung", "nodules", 1, 1),
        Triplet("lung/right lung", "nodules", 0, 1),
        Triplet("heart", "cardiomegaly", -1, 2),
        Triplet("pleura", "pneumothorax, effusion", 0, 3),
    ]
    assert tag_row(rows, tags).tolist() == [1, 0, -1, 0, -1]
    assert tag_row(rows[::-1], tags).tolist() == [1, 0, -1, 0, -1]
    assert tag_row([], tags).tolist() == [0] * 5
    assert tag_row([Triplet("thyroid gland", "nodule", 1, 0)], tags).tolist() == [0, 0, 0, 1, 0]


def test_sentences_belong_to_organs_of_their_words_and_of_their_triplets():
    sentences = ["The heart is enlarged.", "Both lungs and the esophagus are clear.", "Some effusion.", "Follow up."]
    triplets = [Triplet("pleura", "effusion", 1, 3), Triplet("liver", "lesion", 1, 0), Triplet("liver", "cyst", 1, 9)]
    about = sentence_organs(sentences, triplets, ASG)
    assert about.shape == (4, 18)
    told = [[ASG.names[organ] for organ in np.flatnonzero(row)] for row in about]
    assert told == [["heart"], ["lung", "esophagus"], ["lung"], []]


def test_a_mirrored_sentence_is_about_the_other_side():
    about = np.zeros((1, len(LOBES)), bool)
    about[0, LOBES.id_of("lung_middle_lobe_right") - 1] = about[0, LOBES.id_of("heart") - 1] = True
    swapped = mirror_organs(about, LOBES.mirror())[0]
    assert {LOBES.names[organ] for organ in np.flatnonzero(swapped)} == {"lung_upper_lobe_left", "heart"}


def test_fields_of_a_study_line_up_with_its_sentences(tmp_path):
    folder = write(tmp_path, "a,heart,cardiomegaly,1,1", "a,lung/left lung,nodule,1,2", "b,lung,mass,0,")
    rows = {name: ReportRow(name, FINDINGS, IMPRESSION) for name in "abc"}
    source = TripletFields(folder, rows, ("Cardiomegaly", "Lung nodule", "lung mass"), LOBES)
    source.check(["a", "b", "c"])
    rng = np.random.default_rng(0)
    crop = Crop("a", np.zeros((1, 1, 1), np.int16), None, is_mirrored=False)
    made = source.make(crop, rng)
    assert made["tags"].tolist() == [1, 1, 0]
    about = [{LOBES.names[o] for o in np.flatnonzero(row)} for row in made["sent_organ"].numpy()]
    assert about[0] == {"heart"}
    assert about[1] == {
        "lung_upper_lobe_left",
        "lung_lower_lobe_left",
    }  # the lobe by its words, the lung by the triplet
    assert "esophagus" in about[2]
    assert about[3] == set()
    mirrored = source.make(crop._replace(is_mirrored=True), rng)["sent_organ"].numpy()
    assert {LOBES.names[o] for o in np.flatnonzero(mirrored[1])} == {"lung_upper_lobe_right", "lung_lower_lobe_right"}
    assert source.make(crop._replace(study_id="b"), rng)["tags"].tolist() == [0, 0, -1]
    assert source.make(crop._replace(study_id="c"), rng)["tags"].tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="none of the 1 studies"):
        source.check(["x"])


def test_a_folder_without_triplets_names_their_builder(tmp_path):
    with pytest.raises(ConfigError, match="trainers.builders triplets"):
        TripletFields(tmp_path, {}, ("mass",), ASG)


def test_tables_without_a_row_or_of_other_studies_are_refused_in_other_words(tmp_path):
    rows = {"a": ReportRow("a", "The study is limited.", "")}
    head = "study_id,region_path,finding,existence,sentence_idx\n"
    (tmp_path / "triplets.csv").write_text(head)
    with pytest.raises(ConfigError, match="no finding was read from any report"):
        TripletFields(tmp_path, rows, ("nodule",), ORGAN_MAPS["asg"]).check(["a"])
    (tmp_path / "triplets.csv").write_text(f"{head}b,lung,nodule,1,1\n")
    with pytest.raises(ConfigError, match=r"none of the 1 studies \(first: a; in the table: b\)"):
        TripletFields(tmp_path, rows, ("nodule",), ORGAN_MAPS["asg"]).check(["a"])
