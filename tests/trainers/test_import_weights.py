"""The command that converts published weights: what it refuses, in one line. Conversions are in test_true_size.py."""

import json

import pytest
import torch
from published_files import write_mae

from core.models.tokens import ReportTokenizer, find_vocabulary
from trainers.import_weights import main


@pytest.fixture
def say(capsys):
    """Run the command; exit code, JSON or None, lines on stderr."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err.splitlines()

    return run


@pytest.mark.parametrize(
    ("source", "content", "told"),
    [
        ("medclip", None, "no source 'medclip'"),
        ("fvlm", None, "No weights at"),
        ("fvlm", b"not weights", "cannot be read as plain weights"),
        ("fvlm", {"fc.weight": torch.zeros(2)}, "of no model that is known here"),
        ("fvlm", {"patch_embed.proj.weight": torch.zeros(2, 3, 4, 4)}, "holds weights of mae-vit-b, not of fvlm"),
        ("mae-vit-b", {"patch_embed.proj.weight": torch.zeros(2, 3, 4, 4)}, "holds no encoder of mae-vit-b"),
        ("cxr-bert", {"bert.embeddings.word_embeddings.weight": torch.zeros(2, 2)}, "(2, 2) in the file, (30522, 768)"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(say, tmp_path, source, content, told):
    file = tmp_path / "w.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        write_mae(file, content)
    code, answer, lines = say("--source", source, file, "--out", tmp_path / "out")
    assert (code, answer, len(lines)) == (2, None, 1)
    assert told in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [(), ("--source", "fvlm"), ("a.pth", "--out", "x"), ("--colour", "red")])
def test_a_line_that_makes_no_sense_is_answered_in_one(say, arguments):
    code, answer, lines = say(*arguments)
    assert (code, answer, len(lines)) == (2, None, 1)
    assert "--help" in lines[0]


def test_berts_own_vocabulary_file_is_read(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "##dule", "nodule", ".", "heart"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    path = find_vocabulary(tmp_path)
    ids, attn = ReportTokenizer.from_file(path).encode_closed(["Nodule. HEART", "no"], 16)
    assert ids.tolist() == [[2, 7, 8, 9, 3], [2, 5, 3, 0, 0]]
    assert attn.sum(dim=1).tolist() == [5, 3]
    again = ReportTokenizer.from_json(ReportTokenizer.from_file(path).to_json())
    assert again.encode_released("Heart.", 8).ids.tolist()[:3] == [2, 9, 8]
