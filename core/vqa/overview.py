"""Open questions: what there is, whether an organ is normal, what changed. Answered in the report's own sentences."""

from core.report.parsed import Sentence
from core.report.words import split_tokens
from core.vqa.evidence import Answer, CaseEvidence, Evidence, Measurement, abstain
from core.vqa.presence import STATED, report_evidence
from core.vqa.question import ATTRIBUTES, Question
from core.vqa.statements import Statement, is_definite, sentences_about, statements_about, with_existence
from core.vqa.wording import say_finding, say_mention, say_organs

MOST_FINDINGS = 8
_NORMAL = frozenset("normal natural unremarkable clear patent open preserved intact regular".split())
_CHANGE = frozenset(
    """stable unchanged new newly grown increased decreased regressed progressed progression regression change
    difference previous prior resolved disappeared smaller larger enlarged""".split()
)


_SYNONYMS = (
    {"calcified", "calcific", "calcification"},
    {"malignant", "malignancy", "cancer", "cancerous", "carcinoma", "metastatic", "metastasis"},
)


def answer_description(question: Question, case: CaseEvidence) -> Answer:
    """The findings the report states, all or those of one finding or organ."""
    if question.finding:
        present = with_existence(statements_about(case.report, question), "present")
    else:
        sentences = sentences_about(case.report, question.organs)
        present = [Statement(s, m) for s in sentences for m in s.mentions if m.existence == "present"]
    if not present:
        return _nothing_stated(question, case)
    definite = _definite_findings(case)
    present = [s for s in present if is_definite(s) or s.mention.finding not in definite]
    told = list(dict.fromkeys(f"{say_mention(s.mention)} (sentence {s.sentence.index})" for s in present))
    more = f"; and {len(told) - MOST_FINDINGS} more" if len(told) > MOST_FINDINGS else ""
    text = f"The report states {'; '.join(told[:MOST_FINDINGS])}{more}."
    return Answer(text, STATED, report_evidence(present[0], case))


def _definite_findings(case: CaseEvidence) -> set[str]:
    """Findings that the report places somewhere; mentions without a place repeat those."""
    sentences = case.report.sentences if case.report else ()
    everything = [Statement(s, m) for s in sentences for m in s.mentions if m.existence == "present"]
    return {statement.mention.finding for statement in everything if is_definite(statement)}


def answer_normality(question: Question, case: CaseEvidence) -> Answer:
    """Normal if the report says so of the organ, not if it states a finding there."""
    sentences = sentences_about(case.report, question.organs)
    for sentence in sentences:
        for mention in sentence.mentions:
            if mention.existence == "present":
                text = f"No. The report states {say_mention(mention)} (sentence {sentence.index})."
                return Answer(text, STATED, report_evidence(Statement(sentence, mention), case))
    calm = [sentence for sentence in sentences if question.organs and _is_called_normal(sentence)]
    if calm:
        organ, centre = case.place_of(question.organs)
        text = f"Yes. The report calls the {say_organs(question.organs)} normal (sentence {calm[0].index})."
        return Answer(text, STATED, Evidence("report", organ, centre, None, calm[0].index))
    return _nothing_stated(question, case)


def answer_change(question: Question, case: CaseEvidence) -> Answer:
    """What the report says of change; one open CT shows none."""
    about = [s.sentence for s in statements_about(case.report, question)] if question.finding else []
    if not question.finding:
        about = sentences_about(case.report, question.organs)
    telling = [sentence for sentence in about if _CHANGE & _words_of(sentence.text)]
    if not telling:
        named = say_finding(question.finding) or say_organs(question.organs)
        return abstain(f"only one CT is open, and the report says nothing of change in the {named}.")
    mention = next((m for m in telling[0].mentions), None)
    text = f'The report says: "{telling[0].text}" (sentence {telling[0].index}). Only one CT is open to compare.'
    if mention:
        return Answer(text, STATED, report_evidence(Statement(telling[0], mention), case))
    organ, centre = case.place_of(question.organs)
    return Answer(text, STATED, Evidence("report", organ, centre, None, telling[0].index))


def answer_attribute(question: Question, case: CaseEvidence) -> Answer:
    """Calcified, malignant, acute ...: the sentence of the report that uses the word, and nothing else."""
    asked = ATTRIBUTES & _words_of(question.text)
    about = [s.sentence for s in statements_about(case.report, question)] if question.finding else []
    if not question.finding:
        about = sentences_about(case.report, question.organs)
    telling = [sentence for sentence in about if asked & _words_of(sentence.text)]
    if not telling:
        return abstain(f"the report does not say so, and neither masks nor heat maps show {', '.join(sorted(asked))}.")
    text = f'The report says: "{telling[0].text}" (sentence {telling[0].index}).'
    organ, centre = case.place_of(telling[0].organs)
    return Answer(text, STATED, Evidence("report", organ, centre, None, telling[0].index))


def _words_of(text: str) -> set[str]:
    """Words of a text, those for calcium and for cancer taken as one each."""
    words = {token.word for token in split_tokens(text)}
    for group in _SYNONYMS:
        words |= group if group & words else set()
    return words


def _is_called_normal(sentence: Sentence) -> bool:
    words = _words_of(sentence.text)
    return bool(_NORMAL & words) and "not" not in words


def _nothing_stated(question: Question, case: CaseEvidence) -> Answer:
    """No finding is stated: say what is known of the organ, and abstain from more."""
    named = say_organs(question.organs) or say_finding(question.finding) or "this CT"
    reason = f"the report states no finding in the {named}" if case.report else "there is no report"
    organ, centre = case.place_of(question.organs)
    measure = case.measure(organ) if organ else None
    if measure is None:
        return abstain(f"{reason}.")
    number = Measurement(measure.volume_ml, "mL")
    text = f"{reason}. Its mask holds {number} at a mean of {measure.mean_hu:.0f} HU."
    return abstain(text, Evidence("masks", organ, centre, number))
