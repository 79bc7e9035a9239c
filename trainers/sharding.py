"""One model on one or many processes: replicated (DDP) or in shards (FSDP), compiled block by block if asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from core.errors import ConfigError

Precision = Literal["no", "auto", "bf16", "fp16"]
"""Of matrix products; "auto" is bf16 where the hardware multiplies it and "no" elsewhere."""
Sharding = Literal["ddp", "fsdp"]


def open_accelerator(precision: Precision, sharding: Sharding, cpu: bool) -> Accelerator:
    """Where this process computes; refuses combinations that would not train."""
    # A loss of weight 0 leaves its head without a gradient, which DDP must be told to expect.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
    if precision == "auto":
        precision = "bf16" if _multiplies_bf16(cpu) else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[ddp])
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("fp16 needs a GPU: its small gradients vanish unscaled. Set --loop.precision bf16 or no.")
    if precision == "fp16" and sharding == "fsdp":
        raise ConfigError("fp16 with shards is not supported. Set --loop.precision bf16, or --loop.sharding ddp.")
    return accelerator


def _multiplies_bf16(cpu: bool) -> bool:
    """Whether bf16 is fast here: a convolution takes a hundred times as long on a CPU that has to imitate it."""
    if not cpu and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def place_model(model: nn.Module, accelerator: Accelerator, sharding: Sharding) -> nn.Module:
    """The model on its device: as it is, wrapped to average gradients, or cut into shards of its blocks."""
    if sharding == "ddp" or accelerator.num_processes == 1:
        return accelerator.prepare(model)
    model.to(accelerator.device)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in repeated_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(_scalars(model)))
    return model


def compile_blocks(model: nn.Module) -> None:
    """Compile each repeated block in place: they share one graph, so this takes a fraction of compiling the whole."""
    for block in repeated_blocks(model):
        block.compile()


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The members of the model's lists that have weights and hold no list themselves: transformer blocks, mostly."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    members = [member for each in lists for member in each]
    return [
        member
        for member in members
        if not any(isinstance(part, nn.ModuleList) for part in member.modules())
        and any(True for _ in member.parameters())
    ]


@contextmanager
def unsynchronised(model: nn.Module, accelerator: Accelerator, applies: bool) -> Iterator[None]:
    """While it `applies`, backward passes add to the local gradient and send nothing to the other processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not applies)
        yield
        model.set_requires_gradient_sync(True)
    elif applies:
        with accelerator.no_sync(model):
            yield
    else:
        yield


@contextmanager
def unsharded(model: nn.Module) -> Iterator[nn.Module]:
    """The model without its wrapper, its own weights whole, so that methods other than `forward` can be called."""
    if not isinstance(model, FSDPModule):
        yield bare(model)
        return
    model.unshard()
    yield model
    model.reshard()


def bare(model: nn.Module) -> nn.Module:
    """The model that a DDP wrapper holds, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def whole(tensor: Tensor) -> Tensor:
    """A detached tensor with the values of all its shards; every process must call it."""
    detached = tensor.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor cut into shards, or moved to the device, as `pattern` is."""
    if isinstance(pattern, DTensor):
        return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)
    return tensor.to(pattern.device)


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers by plain name, whole; every process must call it."""
    return {name: whole(value) for name, value in bare(model).state_dict().items()}


def finish_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    """Make a sharded model's gradients those of a whole one.

    Scalars, which cannot be cut, are averaged here; one that no process used keeps no gradient. Weights that took no
    part have a gradient of 0 in shards and none in whole models, where decay and momentum leave them alone.
    """
    accelerator.unscale_gradients()
    if not isinstance(model, FSDPModule):
        return
    for scalar in filter(lambda parameter: parameter.requires_grad, _scalars(model)):
        gradient = torch.zeros_like(scalar) if scalar.grad is None else scalar.grad
        is_used = gradient.new_tensor(float(scalar.grad is not None))
        mean, used = accelerator.reduce(torch.stack([gradient, is_used]), "mean")
        scalar.grad = mean if used > 0 else None
    cut = [parameter for parameter in model.parameters() if isinstance(parameter.grad, DTensor)]
    if not cut:
        return
    sizes = torch.stack([p.grad.to_local().abs().sum() for p in cut if isinstance(p.grad, DTensor)])
    for parameter, size in zip(cut, accelerator.reduce(sizes, "sum").tolist(), strict=True):
        if size == 0:
            parameter.grad = None


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scale gradients down to a norm of at most `limit`; returns their norm before that, over all processes.

    0 where there is no gradient at all.
    """
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    cut = [parameter for parameter in trained if isinstance(parameter, DTensor)]
    groups = [group for group in (cut, [p for p in trained if not isinstance(p, DTensor)]) if group]
    norms = [whole(torch.nn.utils.get_total_norm([p.grad for p in group if p.grad is not None])) for group in groups]
    if not norms:
        return 0.0
    norm = torch.stack(norms).norm() if len(norms) > 1 else norms[0]
    for group in groups:
        torch.nn.utils.clip_grads_with_norm_(group, limit, norm)
    return float(norm)


def _scalars(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.ndim == 0]
