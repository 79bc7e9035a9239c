"""The slow way that the benchmark measures against reaches the same losses as ours."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import torch
from dataclasses import replace
from benchmarks.published_step import PublishedStep, compute_as_published
from core.models.asap import ASAP
from core.models.asap_config import RELEASED_FIXES, tiny

config = replace(tiny(60), fixes=RELEASED_FIXES, text_frozen=True, log2_size_min=1)
torch.manual_seed(0)
ours = ASAP(config).eval()
ids = torch.randint(5, 60, (1, 40)); ids[:, 0] = 2
real = torch.ones(1, 40, dtype=torch.bool)
batch = {
    "image": torch.rand(1, 1, 32, 32, 16) * 2 - 1,
    "organ_mask": torch.randint(0, 9, (1, 32, 32, 16), dtype=torch.uint8),
    "findings_ids": ids, "findings_attn": real, "findings_sent": (torch.arange(40)[None] // 10 + 1).short(),
    "report_ids": ids, "report_attn": real,
    "mlm_in": torch.where(torch.rand(1, 40) < 0.5, 4, ids), "mlm_labels": ids,
}
noise = torch.rand(1, 64)
expected = ours(batch, noise)
slow = PublishedStep(config).eval()
slow.load_state_dict(ours.state_dict())
compute_as_published()
found = slow(batch, noise)
assert set(found) == set(expected), (set(found), set(expected))
for name in expected:
    torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6, msg=name)
print("equal")
"""


def test_both_ways_give_the_same_losses() -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "equal"
