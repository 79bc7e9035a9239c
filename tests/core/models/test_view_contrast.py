"""The first stage's contrast: its targets, a number done by hand, who takes part, and several processes."""

import pytest
import torch
from gloo_ranks import run_ranks
from torch.nn import functional as F

from core.models.contrast import plan_gather
from core.models.view_contrast import OrganQueue, Views, view_contrast, view_targets


def draw_views(samples: int = 5, organs: int = 2) -> Views:
    torch.manual_seed(0)
    online, momentum = (F.normalize(torch.randn(samples, organs, 4), dim=-1) for _ in range(2))
    usable = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 1], [1, 1]], dtype=torch.bool)
    abnormal = torch.tensor([[0, 0], [0, 0], [1, 0], [0, 0], [1, 1]], dtype=torch.bool)
    return Views(online, momentum, usable, abnormal)


def compute_slowly(views: Views, tau: float) -> torch.Tensor:
    """The formula of the specification, pair by pair."""
    total, count = torch.zeros(()), 0
    for j in range(views.usable.shape[1]):
        members = [int(i) for i in views.usable[:, j].nonzero()]
        for i in members:
            positives = [k for k in members if not views.abnormal[k, j]] if not views.abnormal[i, j] else [i]
            similar = {k: float(views.online[i, j] @ views.momentum[k, j]) / tau for k in members}
            all_of_them = torch.tensor(list(similar.values())).exp().sum()
            total += -sum(torch.tensor(similar[p]).exp().div(all_of_them).log() for p in positives) / len(positives)
            count += 1
    return total / count


def test_targets_of_two_normal_and_two_abnormal():
    usable, abnormal = torch.ones(4, dtype=torch.bool), torch.tensor([False, False, True, True])
    expected = [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert view_targets(usable, abnormal).tolist() == expected


def test_loss_is_the_formula():
    views = draw_views()
    found = view_contrast(views, torch.tensor(0.1), plan_gather(5, "none"))
    torch.testing.assert_close(found, compute_slowly(views, 0.1))


def test_unusable_organs_change_nothing_and_give_no_gradient():
    views = draw_views()
    online = views.online.clone().requires_grad_()
    view_contrast(views._replace(online=online), torch.tensor(0.1), plan_gather(5, "none")).backward()
    assert online.grad.isfinite().all()
    assert not online.grad[~views.usable].any()
    assert online.grad[views.usable].any()
    momentum = views.momentum.clone()
    momentum[~views.usable] = 7.0
    torch.testing.assert_close(
        view_contrast(views._replace(momentum=momentum), torch.tensor(0.1), plan_gather(5, "none")),
        compute_slowly(views, 0.1),
    )


def test_nothing_usable_is_zero_with_a_gradient_of_zero():
    views = draw_views()
    online = views.online.clone().requires_grad_()
    nobody = views._replace(online=online, usable=torch.zeros_like(views.usable))
    loss = view_contrast(nobody, torch.tensor(0.1), plan_gather(5, "none"))
    loss.backward()
    assert float(loss) == 0
    assert not online.grad.any()


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_order_of_the_batch_does_not_matter(order):
    views = draw_views()
    shuffled = Views(*(part[order] for part in views))
    gather = plan_gather(5, "none")
    tau = torch.tensor(0.1)
    torch.testing.assert_close(view_contrast(shuffled, tau, gather), view_contrast(views, tau, gather))


def rows_of(views: Views, rows: slice) -> Views:
    return Views(*(part[rows] for part in views))


def test_a_queue_compares_with_the_newest_studies_before():
    """Five studies one by one with room for two: each meets itself and the two before it, as the formula has it."""
    views, tau, queue = draw_views(), 0.1, OrganQueue(2, 2, 4)
    for step in range(5):
        own = rows_of(views, slice(step, step + 1))
        found = view_contrast(own, torch.tensor(tau), plan_gather(1, "none"), queue)
        together = rows_of(views, slice(max(0, step - 2), step + 1))
        total, count = torch.zeros(()), 0
        for j in range(2):
            members = [k for k in range(len(together.usable)) if together.usable[k, j]]
            if not own.usable[0, j]:
                continue
            normals = [k for k in members if not together.abnormal[k, j]]
            positives = [len(together.usable) - 1] if own.abnormal[0, j] else normals
            similar = {k: (own.online[0, j] @ together.momentum[k, j] / tau).exp() for k in members}
            total += -sum((similar[k] / sum(similar.values())).log() for k in positives) / len(positives)
            count += 1
        torch.testing.assert_close(found, total / max(1, count))


def test_a_queue_stays_as_it_is_in_evaluation_and_takes_the_end_of_a_larger_batch():
    views, tau, gather = draw_views(), torch.tensor(0.1), plan_gather(5, "none")
    queue = OrganQueue(3, 2, 4).eval()
    torch.testing.assert_close(view_contrast(views, tau, gather, queue), view_contrast(views, tau, gather))
    assert not queue.usable.any()
    queue.train()
    online = views.online.clone().requires_grad_()
    view_contrast(views._replace(online=online), tau, gather, queue).backward()
    assert online.grad.isfinite().all()
    order = sorted(range(3), key=lambda place: float(queue.vectors[place, 0] @ views.momentum[2, 0]), reverse=True)
    assert torch.equal(queue.vectors[order[0]], views.momentum[2])
    assert {tuple(row.flatten().tolist()) for row in queue.vectors} == {
        tuple(row.flatten().tolist()) for row in views.momentum[2:]
    }


def fill_a_share(rank: int) -> dict[str, torch.Tensor]:
    """One of two processes, two steps: its second loss, and what its queue holds."""
    rows, queue = slice(0, 3) if rank == 0 else slice(3, 5), OrganQueue(8, 2, 4)
    own, losses = rows_of(draw_views(), rows), []
    for _ in range(2):
        gather = plan_gather(len(own.online), "local_grad")
        losses.append(view_contrast(own, torch.tensor(0.1), gather, queue))
    return {"loss": losses[1], "vectors": queue.vectors}


def test_processes_keep_one_queue_of_all_their_studies(tmp_path):
    views, queue, gather = draw_views(), OrganQueue(8, 2, 4), plan_gather(5, "none")
    whole = [view_contrast(views, torch.tensor(0.1), gather, queue) for _ in range(2)]
    found = run_ranks(2, fill_a_share, tmp_path)
    torch.testing.assert_close(torch.stack([part["loss"] for part in found]).mean(), whole[1])
    for part in found:
        torch.testing.assert_close(part["vectors"], queue.vectors)


def work_on_a_share(rank: int) -> dict[str, torch.Tensor]:
    """One of two processes with 3 and 2 of the five samples: its loss and the gradient of its own rows."""
    rows = slice(0, 3) if rank == 0 else slice(3, 5)
    own = Views(*(part[rows].clone() for part in draw_views()))
    own.online.requires_grad_()
    loss = view_contrast(own, torch.tensor(0.1), plan_gather(len(own.online), "local_grad"))
    loss.backward()
    return {"loss": loss.detach(), "gradient": own.online.grad}


def test_mean_over_processes_is_the_whole_batch(tmp_path):
    views = draw_views()
    online = views.online.clone().requires_grad_()
    whole = view_contrast(views._replace(online=online), torch.tensor(0.1), plan_gather(5, "none"))
    whole.backward()
    found = run_ranks(2, work_on_a_share, tmp_path)
    torch.testing.assert_close(torch.stack([part["loss"] for part in found]).mean(), whole.detach())
    torch.testing.assert_close(torch.cat([part["gradient"] for part in found]) / 2, online.grad)
