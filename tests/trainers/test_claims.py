import numpy as np

from core.report.mentions import read_sentence
from trainers.claims import AskedClaim, claims_about, is_false_of
from trainers.stored_study import NOWHERE, Words


def facts(text, kind, existence="present", organs=(), laterality="", region=NOWHERE):
    return {
        "text": text,
        "kind": kind,
        "existence": existence,
        "laterality": laterality,
        "organs": list(organs),
        "is_alone": True,
        "region": region,
    }


NODULE = facts(
    "There is a solid nodule in the left upper lobe.", "solid nodule", organs=["lung_upper_lobe_left"],
    laterality="left", region=0,
)  # fmt: skip
WORDS = Words(
    (
        NODULE,
        facts("Possible consolidation.", "consolidation", "uncertain", ["lung_lower_lobe_right"], "right", 1),
        facts("There is no emphysema.", "emphysema", "absent"),
        facts("The heart is normal.", "normal", "absent", ["heart"], region=2),
    ),
    "",
    {
        "solid nodule": {"organs": ["lung_upper_lobe_left"], "region": 0},
        "consolidation": {"organs": ["lung_lower_lobe_right"], "region": 1},
        "mass": {"organs": ["lung_upper_lobe_left"], "region": 3},
    },
)


def ask(others=(), most=8, words=WORDS):
    return claims_about(words, others, most, np.random.default_rng(0))


def test_what_is_true_somewhere_is_asked_with_its_region():
    true = [claim for claim in ask() if claim.region != NOWHERE]
    assert true == [
        AskedClaim(NODULE["text"], 0),
        AskedClaim("Possible consolidation.", 1),
        AskedClaim("The heart is normal.", 2),
    ]


def test_the_other_side_and_what_the_report_denies_are_false():
    false = [claim.text for claim in ask() if claim.region == NOWHERE]
    assert "There is a solid nodule in the right upper lobe." in false
    assert any({m.existence for m in read_sentence(text).mentions} == {"present"} for text in false if "emph" in text)


def test_denials_of_what_is_there_are_false_and_few():
    texts = [claim.text for claim in ask() if claim.region == NOWHERE]
    denials = [text for text in texts if "no " in text.lower() or "not " in text.lower() or "abnormal" in text]
    assert 1 <= len(denials) <= 4


def test_a_finding_in_another_lobe_is_false_here_and_in_the_same_is_not():
    elsewhere = facts("A spiculated nodule.", "spiculated nodule", organs=["lung_lower_lobe_right"])
    same = facts("A spiculated nodule.", "spiculated nodule", organs=["lung_upper_lobe_left", "lung_lower_lobe_left"])
    somewhere = facts("A spiculated nodule.", "spiculated nodule")
    assert is_false_of(WORDS, elsewhere)
    assert not is_false_of(WORDS, same)
    assert not is_false_of(WORDS, somewhere)


def test_what_is_painted_or_may_be_there_is_never_called_false():
    assert not is_false_of(WORDS, facts("A mass.", "mass", organs=["lung_upper_lobe_left"]))  # painted, not told
    hernia = facts("A hiatal hernia.", "hiatal hernia", organs=["esophagus"])
    assert is_false_of(WORDS, hernia)
    maybe = Words(WORDS.statements, "", WORDS.painted, ("hiatal hernia",))
    assert not is_false_of(maybe, hernia)
    assert not is_false_of(WORDS, facts("No hernia.", "hiatal hernia", "absent"))


def test_the_other_side_is_not_false_where_the_same_lies_there_too():
    both = WORDS.painted | {"spiculated nodule": {"organs": ["lung_upper_lobe_right"], "region": 4}}
    asked = ask(words=Words(WORDS.statements, "", both))
    assert not any("right upper lobe" in claim.text for claim in asked)


def test_what_looks_like_a_painted_finding_is_not_called_false():
    effusion = Words((), "", {"pleural effusion": {"organs": ["pleura_left"], "region": 0}})
    assert not is_false_of(effusion, facts("Atelectasis.", "atelectasis"))
    assert is_false_of(effusion, facts("Emphysema.", "emphysema", organs=["lung_lower_lobe_right"]))


def test_a_sentence_with_two_findings_is_neither_turned_round_nor_lent():
    both = NODULE | {"text": "A nodule and no effusion on the left.", "is_alone": False}
    asked = ask(words=Words((both,), "", WORDS.painted))
    assert asked == [AskedClaim(both["text"], 0)]
    assert not is_false_of(Words((), "", {}), both)


def test_borrowed_claims_are_counted_and_said_once():
    others = [facts(f"Pneumothorax number {n // 2}.", "pneumothorax", organs=["pleura_left"]) for n in range(20)]
    borrowed = [claim.text for claim in ask(others, 3) if claim.text.startswith("Pneumothorax")]
    assert len(borrowed) == len(set(borrowed)) == 3
