"""The same function over many items: here, in several processes, or on a Dask cluster.

Why Dask and not Ray Data: the items are independent files of seconds each and their results a few words, so nothing
is streamed between machines and plain task submission is all that is used. Dask is pure Python, installs in seconds,
starts under SLURM, PBS, LSF (dask-jobqueue), Kubernetes or ssh, and workers see shared storage as they find it.
"""

import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from core.errors import AsapError, ConfigError

J = TypeVar("J")
R = TypeVar("R")

AHEAD = 2
"""Items handed out per worker: few, for those in hand when a worker dies are tried again one by one."""
CONNECT_S = 30
"""Seconds to wait for a scheduler."""


@dataclass(frozen=True)
class SpreadConfig:
    """Where the work is done."""

    engine: Literal["local", "dask"] = "local"
    """Processes of this machine, or a Dask cluster (requirements-cluster.txt)."""
    workers: int = 1
    """Processes; 0 works in this one. For a running Dask cluster: ignored."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://node1:8786; None starts one here with `workers` processes."""

    def __post_init__(self) -> None:
        if self.workers < 0 or (self.engine == "dask" and self.scheduler is None and self.workers < 1):
            raise ConfigError(f"workers is {self.workers}; expected at least 1, or 0 with the local engine.")
        if self.scheduler is not None and self.engine != "dask":
            raise ConfigError("A scheduler was given; use it with --engine dask.")


class Lost(NamedTuple):
    """No result: the worker died over it, or the function has a fault."""

    reason: str


class Done(NamedTuple, Generic[J, R]):
    """One item and what became of it."""

    item: J
    result: R | Lost


def spread(work: Callable[[J], R], items: Sequence[J], config: SpreadConfig) -> Iterator[Done[J, R]]:
    """Apply `work` to every item, in any order; a worker that is killed costs one item, not the run.

    `work` and items are sent to other processes. `work` deals with what concerns one item; an AsapError from it, such
    as a full disk or missing weights, concerns every item and ends the run. Any other fault is listed.
    """
    if config.engine == "dask":
        yield from _spread_dask(work, items, config)
    elif config.workers == 0:
        for item in items:
            yield Done(item, work(item))
    else:
        yield from _spread_processes(work, items, config.workers)


def report_progress(done: int, failed: int, total: int, began: float) -> None:
    """One line on stderr: how far, how fast, how long still."""
    seconds = max(time.monotonic() - began, 1e-3)
    left = (total - done) * seconds / max(1, done)
    rate = f"{done / seconds:.2f}/s, {left / 60:.0f} min left"
    sys.stderr.write(f"{done} of {total} done, {failed} failed, {rate}\n")


def _spread_processes(work: Callable[[J], R], items: Sequence[J], workers: int) -> Iterator[Done[J, R]]:
    waiting = deque(items)
    while waiting:
        in_hand: dict[Future, J] = {}
        with _pool(workers) as pool:
            try:
                yield from _drain(pool, work, waiting, in_hand, workers)
            except BrokenProcessPool:
                pass  # a worker was killed; which of the items in hand did it shows below
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        for item in in_hand.values():
            yield _try_alone(work, item)


def _drain(
    pool: ProcessPoolExecutor, work: Callable[[J], R], waiting: deque[J], in_hand: dict[Future, J], workers: int
) -> Iterator[Done[J, R]]:
    """Work through `waiting`; what is in hand when the pool breaks stays in `in_hand`."""
    while waiting or in_hand:
        while waiting and len(in_hand) < AHEAD * workers:
            item = waiting.popleft()
            try:
                in_hand[pool.submit(_on_one_thread, work, item)] = item
            except BrokenProcessPool:
                waiting.appendleft(item)
                raise
        finished, _ = wait(in_hand, return_when=FIRST_COMPLETED)
        for future in finished:
            result = _result_of(future)
            yield Done(in_hand.pop(future), result)


def _try_alone(work: Callable[[J], R], item: J) -> Done[J, R]:
    """An item that was in hand when a worker died, in a process of its own."""
    with _pool(1) as pool:
        try:
            return Done(item, _result_of(pool.submit(_on_one_thread, work, item)))
        except BrokenProcessPool:
            return Done(item, Lost("The worker was killed while it worked on this: perhaps too little memory."))


def _result_of(future: Future) -> Any:
    """The result; a fault of the function as `Lost`, so that one item cannot end a run of days."""
    fault = future.exception()
    if isinstance(fault, AsapError | BrokenProcessPool):
        raise fault
    if fault is not None:
        return Lost(f"Unexpected {type(fault).__name__}: {fault}. This is a fault of the program: please report it.")
    return future.result()


def _pool(workers: int) -> ProcessPoolExecutor:
    """Fresh interpreters: a fork would inherit locks that threads of this process hold."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _on_one_thread(work: Callable[[J], R], item: J) -> R:
    """Workers share the cores by being many; their libraries must not."""
    if "torch" in sys.modules:  # imported with the function, if it is needed at all
        sys.modules["torch"].set_num_threads(1)
    return work(item)


def _spread_dask(work: Callable[[J], R], items: Sequence[J], config: SpreadConfig) -> Iterator[Done[J, R]]:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError("The dask engine is not installed: pip install -r requirements-cluster.txt.") from error
    # a file that kills its worker is not handed to others
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        if config.scheduler is not None:
            try:
                client = Client(config.scheduler, timeout=CONNECT_S)
            except OSError as error:
                raise ConfigError(f"No Dask scheduler answers at {config.scheduler}; start one or wait.") from error
            with client:
                yield from _submit_all(client, work, items)
            return
        with (
            LocalCluster(n_workers=config.workers, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield from _submit_all(client, work, items)


def _submit_all(client: Any, work: Callable[[J], R], items: Sequence[J]) -> Iterator[Done[J, R]]:
    """Hand out a few items per worker at a time: a cluster may grow and shrink meanwhile.

    A worker that dies takes the items with it that it held ready, so those are tried again at the end, each alone.
    """
    from distributed import KilledWorker, as_completed

    waiting, suspects = deque(items), []
    in_hand: dict[str, J] = {}
    completed = as_completed()
    while waiting or in_hand:
        workers = max(1, len(client.scheduler_info()["workers"]))
        while waiting and len(in_hand) < AHEAD * workers:
            future = client.submit(_on_one_thread, work, waiting[0], pure=False)
            in_hand[future.key] = waiting.popleft()
            completed.add(future)
        future = next(completed)
        fault = future.exception() if future.status == "error" else None
        if isinstance(fault, AsapError):
            raise fault
        item = in_hand.pop(future.key)
        if isinstance(fault, KilledWorker):
            suspects.append(item)
            continue
        yield Done(item, future.result() if fault is None else Lost(f"{type(fault).__name__}: {fault}"))
    for item in suspects:
        yield _submit_alone(client, work, item)


def _submit_alone(client: Any, work: Callable[[J], R], item: J) -> Done[J, R]:
    """One item with no other in the workers' hands; a worker that dies now died of it."""
    future = client.submit(_on_one_thread, work, item, pure=False)
    fault = future.exception()
    if isinstance(fault, AsapError):
        raise fault
    return Done(item, future.result() if fault is None else Lost(f"{type(fault).__name__}: {fault}"))
