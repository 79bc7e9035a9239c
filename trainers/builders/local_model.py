"""A language model on this machine: a causal model of the transformers library from a local folder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import EngineError, ReportError
from trainers.builders.prompts import SYSTEM, Question

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]


class LocalModel:
    """A `dialogue.LanguageModel` that answers greedily, several questions at a time.

    Nothing is downloaded and no code of the folder runs: weights are safetensors, classes are the library's own.
    """

    def __init__(self, folder: Path, device: DeviceName = "auto", batch_size: int = 8) -> None:
        require_transformers()
        self.name = f"{folder.name}@{_fingerprint(folder)}"
        self.batch_size = batch_size
        self._tokenizer, self._model = _load(folder, device)

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """In batches of questions that want answers of like length; ReportError when one does not fit the model."""
        told = [""] * len(questions)
        order = sorted(range(len(questions)), key=lambda place: questions[place].most_tokens)
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            for place, answer in zip(places, self._generate([questions[p] for p in places]), strict=True):
                told[place] = answer
        return told

    def _generate(self, questions: list[Question]) -> list[str]:
        import torch

        inputs = self._tokenizer([self._prompt(q) for q in questions], return_tensors="pt", padding=True)
        most = max(question.most_tokens for question in questions)
        self._require_room(inputs["input_ids"].shape[1] + most)
        with torch.inference_mode():
            ids = self._model.generate(
                **inputs.to(self._model.device),
                max_new_tokens=most,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        answers: torch.Tensor = ids[:, inputs["input_ids"].shape[1] :]
        return [self._decode(answer, q.most_tokens) for answer, q in zip(answers, questions, strict=True)]

    def _decode(self, ids: "torch.Tensor", most_tokens: int) -> str:
        """The answer's text, "" when it did not come to its end within `most_tokens`."""
        stops = self._model.generation_config.eos_token_id
        ends = {stops} if isinstance(stops, int) else set(stops or ())
        has_ended = bool(ends & set(ids[:most_tokens].tolist()))
        return self._tokenizer.decode(ids, skip_special_tokens=True) if has_ended else ""

    def _prompt(self, question: Question) -> str:
        """The question in the model's own chat form, or as plain text for a model without one."""
        text = f"{SYSTEM}\n\n{question.text}"  # one message: not every chat form has a system role
        if not self._tokenizer.chat_template:
            return f"{text}\nAnswer: "
        chat = [{"role": "user", "content": text}]
        return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def _require_room(self, tokens: int) -> None:
        room = getattr(self._model.config, "max_position_embeddings", None)
        if room is not None and tokens > room:
            raise ReportError(
                f"a question about it and its answer take {tokens} tokens, the model has room for {room}; choose a "
                "model with a longer context"
            )


def require_transformers() -> None:
    """EngineError, with the command that installs it, where the library is missing."""
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise EngineError(
            "The backend transformers needs the transformers library, which is not installed. Install it: pip install "
            "-r requirements-llm.txt; or use --backend rules or openai."
        ) from error


def _load(folder: Path, device: DeviceName) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise EngineError("No CUDA device was found; use --device cpu.")
    place = "cuda" if has_cuda and device != "cpu" else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.bfloat16 if place == "cuda" else torch.float32,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EngineError(
            f"{folder} is no causal language model of the transformers library ({reason}). Expected config.json, "
            "*.safetensors and the tokenizer's files."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.to(place).eval()


def _fingerprint(folder: Path) -> str:
    """Tells folders of one name apart: their config, and the names, sizes and times of their weights."""
    digest = hashlib.sha256()
    try:
        digest.update((folder / "config.json").read_bytes())
        for path in sorted(folder.glob("*.safetensors")):
            digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    except OSError as error:
        raise EngineError(
            f"{folder} is no folder of a language model ({error.strerror}: config.json). Give the folder with --model."
        ) from error
    return digest.hexdigest()[:12]
