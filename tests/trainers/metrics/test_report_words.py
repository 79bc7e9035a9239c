import pytest

from core.errors import ConfigError
from trainers.metrics.report_words import WordVocabulary, clean_report


def test_words_as_published(golden):
    told = golden["report_tokeniser"]
    assert [clean_report(report, as_released=True) for report in told["reports"]] == told["cleaned"]
    vocabulary = WordVocabulary.from_reports(told["reports"], told["threshold"], as_released=True)
    assert vocabulary.numbers == told["token2idx"]
    encoded = [vocabulary.encode(report) for report in told["reports"]]
    assert encoded == told["encoded"]
    assert [vocabulary.decode(numbers) for numbers in encoded] == told["decoded"]


def test_decimals_and_slashes_keep_words_apart():
    report = "Nodule of 5.2 mm in aorta/arch. No effusion!"
    assert clean_report(report) == "nodule of 5.2 mm in aorta arch . no effusion ."
    assert clean_report(report, as_released=True) == "nodule of 52 mm in aortaarch . no effusion ."


def test_a_segment_at_the_end_of_a_sentence_keeps_its_number():
    report = "Band in segment 2. Heart normal."
    assert clean_report(report) == "band in segment 2 . heart normal ."
    assert clean_report(report, as_released=True) == "band in segment . heart normal ."


def test_rare_words_are_unknown_and_decoding_stops_at_the_edge():
    vocabulary = WordVocabulary.from_reports(["Heart normal.", "Heart big."], threshold=2)
    assert vocabulary.words == (".", "<unk>", "heart")
    assert vocabulary.encode("Heart huge.") == [0, 3, 2, 1, 0]
    assert vocabulary.decode([0, 3, 1, 0, 3]) == "heart ."
    assert vocabulary.decode([3, 2]) == "heart <unk>"
    with pytest.raises(ConfigError, match="<unk>"):
        WordVocabulary(("heart",))
