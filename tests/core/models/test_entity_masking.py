import random
from dataclasses import replace

import pytest
import torch

from core.errors import ConfigError
from core.models.entity_masking import RELEASED_RULE, EntityMasker, MaskingRule, Roles, weigh_tokens
from core.models.entity_words import XRAY_WORDS, EntityWords
from core.models.tokens import train_wordpiece
from core.report.insertion import count_locations, insert_between, insert_released
from core.synthesis.reports import generate_reports

WORDS = EntityWords(("effusion", "ground-glass", "mass"), ("there is no evidence of", "there is no"))


def spell(text: str) -> list[str]:
    """Words as pieces of four letters; brackets and marks stand alone."""
    pieces = []
    for word in text.lower().replace(".", " .").replace("-", " - ").split():
        word = word.upper() if word.startswith("[") else word
        cut = [word] if word.startswith("[") else [word[i : i + 4] for i in range(0, len(word), 4)]
        pieces += [cut[0], *("##" + rest for rest in cut[1:])]
    return pieces


def masker(words: EntityWords = WORDS, rule: MaskingRule | None = None) -> EntityMasker:
    return EntityMasker(words, rule or MaskingRule(), spell)


def reports(count: int) -> list[str]:
    return [f"{report.findings} {report.impression}" for report in generate_reports(count, seed=3)]


def test_words_and_phrases_have_roles_as_wholes():
    pieces = spell("[CLS] A bilateral small effusion. Dense ground-glass is seen.")
    roles = masker().find_roles(pieces)
    assert [p for p, hit in zip(pieces, roles.entity, strict=True) if hit] == [
        "effu", "##sion", "grou", "##nd", "-", "glas", "##s",
    ]  # fmt: skip
    told = [p for p, hit in zip(pieces, roles.descriptor, strict=True) if hit]
    assert told == ["bila", "##tera", "##l", "smal", "##l", "dens", "##e"]  # the dot before "Dense" is none
    assert roles.head[pieces.index("glas")] == pieces.index("grou")
    assert not roles.maskable[0]


def test_no_entity_inside_another_word():
    assert not masker().find_roles(spell("[CLS] massive heart.")).entity.any()
    assert masker().find_roles(spell("[CLS] a mass.")).entity.any()


def test_entities_that_the_vocabulary_cannot_spell_match_nothing():
    strange = EntityMasker(WORDS, MaskingRule(), lambda text: ["[UNK]"])
    assert not strange.find_roles(["[CLS]", "[UNK]", "[UNK]", "."]).entity.any()


@pytest.mark.parametrize(("prob", "low", "high"), [(1.0, 1.0, 1.0), (0.7, 0.68, 0.72)])
def test_descriptors_are_hidden_as_often_as_told(prob, low, high):
    rule = MaskingRule(descriptor_prob=prob)
    roles = masker(rule=rule).find_roles(spell("[CLS] the heart is big and a small effusion. there is a mass."))
    draws = torch.rand(2, 3000, len(roles.entity), generator=torch.Generator().manual_seed(0))
    hidden = torch.stack([masker(rule=rule).choose(roles, a, b) for a, b in zip(*draws, strict=True)]).float()
    told = roles.descriptor & ~roles.entity
    heads = told & (roles.head == torch.arange(len(told)))
    assert low <= hidden[:, heads].mean().item() <= high
    assert 0.73 <= hidden[:, roles.entity].mean().item() <= 0.77
    rest = roles.maskable & ~roles.entity & ~told
    assert 0.68 <= hidden[:, rest].mean().item() <= 0.72


def test_a_report_without_an_entity_hides_three_quarters():
    roles = masker().find_roles(spell("[CLS] all is well here and nothing is wrong at all"))
    draws = torch.rand(2000, len(roles.entity), generator=torch.Generator().manual_seed(0))
    hidden = torch.stack([masker().choose(roles, row, row) for row in draws]).float()
    assert 0.73 <= hidden[:, roles.maskable].mean().item() <= 0.77


@pytest.mark.parametrize("rule", [MaskingRule(), RELEASED_RULE])
def test_the_rest_of_a_word_follows_its_head(rule):
    """Real words of generated reports; the released rule leaves the rest of an entity visible, as published."""
    texts = reports(20)
    tokenizer = train_wordpiece(texts, 150)
    words = EntityMasker(EntityWords(), rule, tokenizer.split)
    generator, rests = torch.Generator().manual_seed(1), 0
    for text in texts:
        pieces = ["[CLS]", *tokenizer.split(text)]
        roles = words.find_roles(pieces)
        hidden = words.choose(roles, *torch.rand(2, len(pieces), generator=generator))
        for place in range(2, len(pieces) - 1):
            if pieces[place].startswith("##") and not (rule.unit == "piece" and roles.entity[roles.head[place]]):
                assert hidden[place] == hidden[place - 1]
                rests += 1
    assert rests > 500


def test_released_rule_stops_at_padding_and_spares_both_ends():
    pieces = ["[CLS]", "a", "b", "c", "[PAD]", "[PAD]"]
    full = ["[CLS]", "a", "b", "c"]
    rule = replace(RELEASED_RULE, plain_prob=1.0)
    for text, expected in ((pieces, [0, 1, 1, 1, 0, 0]), (full, [0, 1, 1, 0])):
        roles = masker(XRAY_WORDS, rule).find_roles(text)
        assert masker(XRAY_WORDS, rule).choose(roles, *torch.rand(2, len(text))).int().tolist() == expected


def test_weights_of_the_worked_case():
    """T = 64, 8 stock tokens, 6 descriptors, 3 of them both: g = 3.4127, overlap 0.1706 (spec 2.4)."""
    flags = torch.zeros(3, 64, dtype=torch.bool)
    flags[0, 10:18] = True
    flags[1, 15:21] = True
    roles = Roles(flags[2], flags[1], flags[0], torch.arange(64), ~flags[2])
    weights = weigh_tokens(roles)
    assert weights[20].item() == pytest.approx(3.4127, abs=1e-4)
    assert weights[16].item() == pytest.approx(0.1706, abs=1e-4)
    assert weights[10].item() == pytest.approx(0.05)
    assert weights.sum().item() == pytest.approx(64, abs=1e-4)


def test_weights_of_a_thousand_random_reports_sum_to_their_length():
    chooser, kinds = random.Random(0), set()
    vocabulary = ["effusion", "mass", "there is no", "there is no evidence of", "is", ".", "small", "the", "no"]
    for _ in range(1000):
        pieces = spell("[CLS] " + " ".join(chooser.choices(vocabulary, k=chooser.randint(1, 80))))
        roles = masker().find_roles(pieces)
        weights = weigh_tokens(roles)
        assert weights.sum().item() == pytest.approx(len(pieces), rel=1e-5)
        assert weights.min() > 0
        kinds.add((bool(roles.stock.any()), bool(roles.descriptor.any())))
    assert len(kinds) == 4  # with and without either


def test_inserted_statements_leave_every_sentence_in_order():
    sentences = [f"Sentence {n}." for n in range(5)]
    for location in range(6):
        mixed = insert_between(sentences, ["There is a mass.", "There is no cyst."], location)
        assert [text for text in mixed if text in sentences] == sentences
        assert mixed[location : location + 2] == ["There is a mass.", "There is no cyst."]


def test_released_insertion_at_every_place():
    report = "The heart is big. No mass. Bones are intact."
    assert count_locations(report) == 5
    for location in range(count_locations(report)):
        text = insert_released(report, "There is a mass.", location)
        assert text.replace("There is a mass.", "", 1) == report
    assert insert_released("No dot at the end", "X.", 1) == "No dot at the end.X."
    assert insert_released("Two.. dots", "X.", None) == "Two. dots"


def test_empty_word_lists_are_refused():
    for wrong in ((), ("mass", " ")):
        with pytest.raises(ConfigError):
            EntityWords(entities=wrong)
