"""Eight studies of 32x32x16 voxels whose bright box is where their sentence says."""

from functools import cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from core.models.asap_config import ASAPConfig, tiny
from core.models.tokens import ReportTokenizer, mask_tokens, train_wordpiece

SIDES = [f"{z} {y} {x}" for z in ("upper", "lower") for y in ("front", "back") for x in ("left", "right")]
TEXTS = [[f"A bright box lies {side}.", "The heart is normal."] for side in SIDES]


@cache
def tiny_tokenizer() -> ReportTokenizer:
    return train_wordpiece([" ".join(text) for text in TEXTS], 200)


def tiny_config(tokenizer: ReportTokenizer) -> ASAPConfig:
    return tiny(tokenizer.vocab_size)


class TinyStudies:
    """Items depend on index and epoch only; the epoch moves the masked words."""

    def __init__(self, tokenizer: ReportTokenizer) -> None:
        self.tokenizer, self.epoch = tokenizer, 0

    def __len__(self) -> int:
        return len(TEXTS)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        draws = torch.Generator().manual_seed(self.epoch * 100 + index)
        organ = torch.zeros(32, 32, 16, dtype=torch.uint8)
        organ[8:24, 8:24, 4:12] = 1
        box = torch.zeros(32, 32, 16)
        z, y, x = index // 4, index // 2 % 2, index % 2
        box[x * 16 : x * 16 + 16, y * 16 : y * 16 + 16, z * 8 : z * 8 + 8] = 1
        image = 0.1 * torch.randn(32, 32, 16, generator=draws) + box - 0.5
        text = self.tokenizer.encode_sentences(TEXTS[index], 64)
        masked, labels = mask_tokens(text.ids, torch.rand(len(text.ids), generator=draws), 0.5)
        inside = F.avg_pool3d(box[None, None], (8, 8, 4))
        target = torch.stack([rearrange(inside, "1 1 x y z -> (x y z)"), torch.zeros(64)])
        return {
            "study_id": str(index),
            "image": image[None],
            "organ_mask": organ,
            "findings_ids": text.ids,
            "findings_attn": text.attn,
            "findings_sent": text.sentence_map,
            "report_ids": text.ids,
            "report_attn": text.attn,
            "mlm_in": masked,
            "mlm_labels": labels,
            "sentence_target": target,
            "sentence_target_valid": torch.tensor([True, False]),
        }
