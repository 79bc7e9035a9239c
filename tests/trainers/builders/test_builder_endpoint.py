import json
import sqlite3
from pathlib import Path

import pytest
from chat_server import ChatServer, answer_by_words

from core.errors import ConfigError
from trainers.builders.__main__ import main
from trainers.builders.endpoint import EndpointConfig
from trainers.builders.files import read_distilled, read_organ_state, read_organ_text, read_triplets

REPORTS = """study_id,findings,impression
a,Nodule in the left lung of 1.5 cm. Heart is normal. No effusion of the heart.,Lung nodule.
b,Esophagus is normal. Hernia of the esophagus.,Not given.
"""


@pytest.fixture
def server():
    with ChatServer().running() as running:
        yield running


@pytest.fixture
def ask(server, tmp_path, capsys):
    """Run a builder against the server: exit code, summary (or {}), what was said on stderr."""
    (tmp_path / "reports.csv").write_text(REPORTS)

    def run(kind: str, *more: str) -> tuple[int, dict, str]:
        files = ["--reports", str(tmp_path / "reports.csv"), "--out", str(tmp_path / kind)]
        code = main([kind, *files, "--backend", "openai", "--model", "m", "--base-url", server.url, *more])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else {}, said.err

    return run


def test_organs_are_asked_for_in_three_steps(ask, server, tmp_path):
    code, summary, err = ask("organ-text")
    assert (code, summary["problems"]) == (0, []), err
    assert read_organ_text(tmp_path / "organ-text") == {
        "a": {
            "lung": ("Nodule in the left lung of 1.5 cm.", "Lung nodule."),
            "heart": ("Heart is normal. No effusion of the heart.", ""),
        },
        "b": {"esophagus": ("Esophagus is normal. Hernia of the esophagus.", "")},
    }
    asked = len(server.questions)
    assert asked == 4 * 3 + 4  # is each organ in each section (one has no impression); what is said of it
    assert ask("organ-state")[0] == 0
    assert len(server.questions) == asked + 3  # only the verdicts: the rest is in the cache
    assert read_organ_state(tmp_path / "organ-state") == {
        "a": {"lung": True, "heart": True, "esophagus": False, "aorta": False},
        "b": {"lung": False, "heart": False, "esophagus": True, "aorta": False},
    }
    assert all(body["temperature"] == 0 and body["model"] == "m" for body in server.bodies)
    assert all("Not given" not in question for question in server.questions[:asked])


def test_unmentioned_organs_may_be_left_unknown(ask, tmp_path):
    assert ask("organ-state", "--unmentioned", "unknown")[0] == 0
    assert read_organ_state(tmp_path / "organ-state")["b"] == {"esophagus": True}


def test_triplets_and_statements_are_asked_for_once_a_report(ask, server, tmp_path):
    assert ask("triplets")[0] == 0
    assert read_triplets(tmp_path / "triplets")["a"] == [
        ("lung/left lung", "nodule", 1, 1),
        ("lung/left lung", "effusion", 0, 3),
        ("lung/left lung", "nodule", 1, 4),
    ]
    assert ask("distill")[0] == 0
    assert read_distilled(tmp_path / "distill") == {"a": "There is nodule. There is effusion.", "b": "There is hernia."}
    assert len(server.questions) == 4


def test_answers_of_another_form_are_asked_again_then_listed(ask, server, tmp_path):
    def reply(question: str) -> str:
        if "heart" in question.split("</report>")[1][:80] and "another form" not in question:
            return "The heart? Well, it depends."
        return "I am not sure" if "the aorta" in question else answer_by_words(question)

    server.reply = reply
    code, summary, _ = ask("organ-text", "--attempts", "2")
    assert code == 0
    reasons = {problem["reason"] for problem in summary["problems"]}
    assert reasons == {"no usable answer to the question mentioned about aorta; the last one began 'I am not sure'"}
    assert set(read_organ_text(tmp_path / "organ-text")["a"]) == {"lung", "heart"}
    server.reply = answer_by_words
    asked = len(server.questions)
    code, summary, _ = ask("organ-text")
    assert summary["problems"] == []
    assert len(server.questions) == asked + 3  # the aorta in three sections; usable answers were kept


def test_made_up_extracts_are_not_taken(ask, server, tmp_path):
    def reply(question: str) -> str:
        return "lung: Large mass with cavitation" if "Copy from" in question else answer_by_words(question)

    server.reply = reply
    _, summary, _ = ask("organ-text", "--attempts", "1")
    assert "lung" not in read_organ_text(tmp_path / "organ-text")["a"]
    assert any("extract about lung" in problem["reason"] for problem in summary["problems"])


def test_thoughts_are_passed_over_and_cut_answers_not_taken(ask, server):
    server.reply = lambda question: f"<think>Is it yes? No?</think>\n{answer_by_words(question)}"
    assert ask("organ-text", "--thought-tokens", "500")[1]["problems"] == []
    assert {body["max_tokens"] for body in server.bodies} == {508, 1500}
    server.finish = "length"
    code, summary, _ = ask("distill", "--attempts", "1")
    assert code == 0
    assert len(summary["problems"]) == 2


def test_busy_server_is_asked_again(ask, server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    server.failures = [503, 429, 500]
    code, summary, err = ask("distill")
    assert (code, summary["problems"]) == (0, []), err


def test_dead_server_stops_the_run_and_the_next_one_goes_on(ask, server, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    def fail_on_b(question: str) -> str:
        if "Hernia" in question:
            server.failures = [503] * 99
        return answer_by_words(question)

    server.reply = fail_on_b
    code, _, err = ask("organ-text", "--retries", "1", "--concurrency", "1")
    assert code == 2
    assert err.count("\n") == 1
    assert "did not answer (HTTP 503, asked 2 times)" in err
    assert not (tmp_path / "organ-text").exists()
    server.failures, server.reply, asked = [], answer_by_words, len(server.questions)
    code, summary, _ = ask("organ-text")
    assert (code, summary["reused"]) == (0, 1)
    assert all("left lung of" not in question for question in server.questions[asked:])


def test_nobody_listening_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "r.csv").write_text(REPORTS)
    files = ["--reports", str(tmp_path / "r.csv"), "--out", str(tmp_path / "o")]
    address = ["--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--retries", "0"]
    assert main(["distill", *files, "--backend", "openai", *address]) == 2
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9/v1 did not answer" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Check the key"),
        (404, "Check --base-url"),
        (302, "Redirects are not followed"),
        (418, "refused with HTTP"),
    ],
)
def test_refusals_say_what_to_check(status, message, ask, server):
    server.failures = [status] * 50
    code, _, err = ask("distill")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_question_the_server_cannot_use_fails_only_its_report(ask, server, tmp_path):
    server.failures = [400]
    code, summary, _ = ask("distill", "--concurrency", "1")
    assert code == 0
    assert list(read_distilled(tmp_path / "distill")) == ["b"]
    assert "HTTP 400, try later" in summary["problems"][0]["reason"]


@pytest.mark.parametrize("raw", [b"<html>hello</html>", b"[]", b'{"choices": []}', b'{"error": "x"}'])
def test_other_services_are_recognised(raw, ask, server, tmp_path):
    server.raw = raw
    code, _, err = ask("distill")
    assert code == 2
    assert "not answer in the form of a chat completion" in err
    assert not (tmp_path / "distill").exists()


def test_key_comes_from_the_named_variable(ask, server, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret-7")
    code, summary, err = ask("distill", "--key-variable", "A_KEY")
    assert code == 0
    assert set(server.keys) == {"Bearer secret-7"}
    assert "secret-7" not in json.dumps(summary) + err
    monkeypatch.delenv("A_KEY")
    code, _, err = ask("distill", "--key-variable", "A_KEY")
    assert code == 2
    assert "A_KEY is not set" in err


def test_only_so_many_reports_are_asked_about_at_a_time(ask, server, tmp_path):
    server.delay_s = 0.05
    rows = "".join(f"s{number},Nodule number {number}.,\n" for number in range(12))
    (tmp_path / "reports.csv").write_text(f"study_id,findings,impression\n{rows}")
    assert ask("distill", "--concurrency", "3")[0] == 0
    assert 2 <= server.most_at_once <= 3


def test_other_models_and_prompts_have_other_answers(ask, server, monkeypatch):
    ask("distill")
    asked = len(server.questions)
    ask("distill")
    assert len(server.questions) == asked
    ask("distill", "--model", "other")
    assert len(server.questions) == 2 * asked
    monkeypatch.setattr("trainers.builders.answers.PROMPT_VERSION", "next")
    ask("distill")
    assert len(server.questions) == 3 * asked


def test_broken_cache_is_refused(ask, tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"no database, but long enough to be one" * 100)
    code, _, err = ask("distill")
    assert code == 2
    assert "The cache" in err


def test_cache_holds_only_usable_answers(ask, server, tmp_path):
    server.reply = lambda _question: "Well."
    assert ask("distill", "--cache", str(tmp_path / "kept.db"))[0] == 0
    with sqlite3.connect(Path(tmp_path / "kept.db")) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (0,)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "127.0.0.1:8000", "http://", "http://host/v1?x=1"])
def test_odd_addresses_are_refused(url):
    with pytest.raises(ConfigError, match="expected an address like"):
        EndpointConfig(url, "m")


def test_odd_keys_and_patience_are_refused():
    with pytest.raises(ConfigError, match="no HTTP header"):
        EndpointConfig("http://localhost/v1", "m", "a\nb")
    with pytest.raises(ConfigError, match="positive timeout"):
        EndpointConfig("http://localhost/v1", "m", timeout_s=0)
