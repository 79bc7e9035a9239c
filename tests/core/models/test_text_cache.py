"""Kept states of a frozen text encoder."""

from pathlib import Path

import pytest
import torch

from core.errors import ConfigError
from core.models.bert import BertConfig
from core.models.text import TextEncoder
from core.models.text_cache import TextCache

CONFIG = BertConfig(50, width=24, depth=2, heads=4, mlp_width=32, positions=20, dropout=0.3)


@pytest.fixture
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(CONFIG).freeze()


@pytest.fixture
def texts() -> tuple[torch.Tensor, torch.Tensor]:
    is_real = torch.arange(9) < torch.tensor([[9], [4]])
    return torch.randint(5, 50, (2, 9)).masked_fill(~is_real, 0), is_real


def test_states_are_the_encoders_and_come_from_files_the_second_time(
    tmp_path: Path, encoder: TextEncoder, texts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    ids, is_real = texts
    cache = TextCache(tmp_path, encoder)
    first = cache.read(ids, is_real)
    torch.testing.assert_close(first[is_real], encoder(ids, is_real)[is_real], rtol=2e-3, atol=2e-3)
    assert not first[~is_real].any()
    files = sorted(tmp_path.rglob("*.npy"))
    assert len(files) == 2
    encoder.forward = None  # type: ignore[assignment, method-assign]
    assert torch.equal(cache.read(ids, is_real), first)
    longer = torch.nn.functional.pad(ids, (0, 3))
    assert torch.equal(cache.read(longer, torch.nn.functional.pad(is_real, (0, 3)))[:, :9], first)


def test_other_weights_do_not_find_the_states(
    tmp_path: Path, encoder: TextEncoder, texts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    first = TextCache(tmp_path, encoder).read(*texts)
    with torch.no_grad():
        encoder.bert.embeddings.word_embeddings.weight.add_(torch.randn(50, 24))
    assert not torch.allclose(TextCache(tmp_path, encoder).read(*texts), first, atol=1e-2)


def test_an_encoder_that_trains_or_drops_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frozen text encoder"):
        TextCache(tmp_path, TextEncoder(CONFIG))
    with pytest.raises(ConfigError, match="eval mode"):
        TextCache(tmp_path, TextEncoder(CONFIG).freeze(always_eval=False))
