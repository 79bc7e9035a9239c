import numpy as np
import pytest

from core.errors import ReportError
from core.report.mentions import read_sentence
from core.report.paraphrase import SYNONYMS, paraphrase_sentence
from core.synthesis.reports import generate_reports


@pytest.mark.parametrize(
    ("sentence", "draws", "expected"),
    [
        ("There is a nodule in the left lower lobe.", (0, 0, 0, 0), "A nodular lesion is present in the LLL."),
        ("There is a nodule in the left lower lobe.", (0.5, 0, 0.6, 0),
         "In the lower lobe of the left lung, there is a nodular lesion."),
        ("No pleural effusion was observed.", (0, 0.3, 0.4, 0), "No evidence of pleural fluid."),
        ("A mass lesion of 34 mm is seen.", (0, 0, 0, 0.1), "A mass of 3.4 cm was noted."),
        ("Nodule of 12 x 9 mm.", (0, 0, 0, 0), "Nodular lesion of 12 x 9 mm."),
        ("Nothing that a rule knows.", (0, 0, 0, 0), "Nothing that a rule knows."),
    ],
)  # fmt: skip
def test_words_verbs_order_and_units_change(sentence, draws, expected):
    assert paraphrase_sentence(sentence, draws) == expected


def test_the_parser_reads_a_paraphrase_as_it_reads_the_sentence():
    rng, changed = np.random.default_rng(1), 0
    for report in generate_reports(40, 21):
        for statement in report.statements:
            other = paraphrase_sentence(statement.text, rng.random(4).tolist())
            changed += other != statement.text
            told = [{(m.existence, m.laterality) for m in read_sentence(t).mentions} for t in (statement.text, other)]
            assert told[0] == told[1], (statement.text, other)
    assert changed > 150


def test_rows_of_synonyms_begin_with_different_words():
    assert len({row[0] for row in SYNONYMS}) == len(SYNONYMS)
    assert all(row[0] not in row[1:] for row in SYNONYMS)


def test_too_few_draws_are_refused():
    with pytest.raises(ReportError, match="4 numbers"):
        paraphrase_sentence("A mass.", [0.1])
