"""Running a function in several processes that talk over gloo, as training on several cards does."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed as dist
from torch import multiprocessing


def run_ranks(world: int, work: Callable[..., dict[str, torch.Tensor]], folder: Path, *arguments: object) -> list[dict]:
    """Call `work(rank, *arguments)` in `world` processes and return what each gave, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_run, (world, port, work, str(folder), arguments), nprocs=world)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world)]


def _run(rank: int, world: int, port: int, work: Callable, folder: str, arguments: tuple) -> None:
    torch.set_num_threads(1)
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.save(work(rank, *arguments), Path(folder) / f"rank{rank}.pt")
    dist.barrier()  # a process that leaves while another still talks to it may abort that one
    dist.destroy_process_group()
