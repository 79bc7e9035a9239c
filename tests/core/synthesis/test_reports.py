import numpy as np
import pytest

from core.findings import CT_RATE_LABELS
from core.report.mentions import read_sentence
from core.synthesis.claims import KINDS, Claim, mirror_claim, negate_claim
from core.synthesis.reports import NORMALITY, draw_claim, generate_reports, write_report
from core.synthesis.sentences import STYLES, write_sentence


@pytest.fixture(scope="module")
def reports():
    return generate_reports(300, seed=4)


def test_the_same_seed_gives_the_same_reports_and_another_seed_others(reports):
    assert generate_reports(300, seed=4) == reports
    assert generate_reports(300, seed=5) != reports


def test_reports_are_diverse(reports):
    assert len({report.findings for report in reports}) == len(reports)
    assert len({statement.text for report in reports for statement in report.statements}) > 1200


def test_statements_are_the_sentences_of_the_findings_in_order(reports):
    for report in reports:
        assert " ".join(statement.text for statement in report.statements) == report.findings
        for statement in report.statements:
            assert statement.text.endswith(".")
            assert statement.text[0].isupper() or statement.text[0].isdigit()
            assert "  " not in statement.text
            assert "{" not in statement.text


def test_labels_are_what_the_statements_say(reports):
    for report in reports:
        facts = [fact for statement in report.statements for fact in statement.facts]
        said = {s.finding for s in facts if s.existence == "present" and s.finding}
        assert {label for label, present in report.labels.items() if present} == said & set(CT_RATE_LABELS)
    assert all(any(report.labels[label] for report in reports) for label in CT_RATE_LABELS)


def test_a_finding_is_not_both_claimed_and_denied(reports):
    for report in reports:
        facts = [fact for statement in report.statements for fact in statement.facts]
        denied = {s.finding for s in facts if s.finding and s.existence == "absent"}
        claimed = {s.finding for s in facts if s.finding and s.existence != "absent"}
        assert not denied & claimed


@pytest.mark.parametrize("style", STYLES)
def test_side_and_size_of_the_claim_are_in_the_words(style):
    rng = np.random.default_rng(0)
    claim = Claim("spiculated nodule", "present", ("lung_lower_lobe_left",), "left", 23.0)
    for _ in range(40):
        statement = write_sentence(claim, style, rng, is_vague=False)
        (mention,) = read_sentence(statement.text).mentions
        assert mention.organs == ("lung_lower_lobe_left",), statement.text
        assert mention.laterality == statement.laterality == "left"
        assert mention.size_mm == statement.size_mm


def test_mirroring_exchanges_sides_and_lingula_stands_for_the_middle_lobe():
    claim = Claim("solid nodule", "present", ("lung_middle_lobe_right",), "right", 9.0)
    mirrored = mirror_claim(claim)
    assert mirrored.organs == ("lung_upper_lobe_left",)
    assert mirrored.laterality == "left"
    assert mirrored.size_mm == 9.0


def test_negating_drops_what_cannot_be_measured():
    claim = Claim("mass", "present", ("lung_lower_lobe_left",), "left", 40.0, 30.0, 1)
    assert negate_claim(claim) == Claim("mass", "absent", ("lung_lower_lobe_left",), "left")


def test_sizes_stay_in_the_range_of_the_kind():
    rng = np.random.default_rng(1)
    for name, kind in KINDS.items():
        for _ in range(20):
            size = draw_claim(name, rng).size_mm
            assert size is None or kind.sizes_mm[0] - 0.5 <= size <= kind.sizes_mm[1] + 0.5


def test_a_report_of_nothing_is_a_normal_report():
    report = write_report([], list(NORMALITY)[:2], np.random.default_rng(0), is_plain=True)
    assert len(report.statements) == 2
    assert not any(report.labels.values())
    assert report.impression
