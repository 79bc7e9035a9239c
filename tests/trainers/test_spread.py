import os
import subprocess
import sys

import pytest
from spread_work import double

from core.errors import ConfigError, StorageError
from trainers.spread import Lost, SpreadConfig, spread

TWO = SpreadConfig(workers=2)


def results(numbers, config):
    return dict(spread(double, numbers, config))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_item_comes_back_once_with_its_result(workers):
    assert results([0, 1, 2, 3, 4, 6, 7], SpreadConfig(workers=workers)) == {n: 2 * n for n in (0, 1, 2, 3, 4, 6, 7)}


def test_a_killed_worker_costs_one_item():
    found = results([1, 2, 13, 3, 4, 6, 7, 8], TWO)
    assert {n: r for n, r in found.items() if n != 13} == {n: 2 * n for n in (1, 2, 3, 4, 6, 7, 8)}
    assert isinstance(found[13], Lost)
    assert "killed" in found[13].reason


def test_a_fault_is_listed_and_a_full_disk_ends_the_run():
    found = results([4, 5], TWO)
    assert found[4] == 8
    assert "KeyError" in found[5].reason
    with pytest.raises(StorageError, match="full"):
        results([1, 99, 2], TWO)


@pytest.mark.parametrize(
    "wrong", [{"workers": -1}, {"engine": "dask", "workers": 0}, {"scheduler": "tcp://127.0.0.1:1"}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        SpreadConfig(**wrong)


def test_dask_gives_the_same_with_two_workers():
    """In a process of its own, for a cluster leaves threads and warnings behind."""
    pytest.importorskip("distributed", reason="requirements-cluster.txt is not installed")
    done = subprocess.run([sys.executable, "-c", ON_DASK], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["same", "killed", "KeyError", "full"]


ON_DASK = f"""
import sys
sys.path[:0] = {[os.getcwd(), os.path.join(os.getcwd(), "tests")]!r}
from spread_work import double
from core.errors import StorageError
from trainers.spread import SpreadConfig, spread

if __name__ == "__main__":
    two = SpreadConfig("dask", 2)
    found = dict(spread(double, [0, 1, 2, 3, 4, 5, 6, 7, 8, 13], two))
    lost = {{n: found.pop(n).reason for n in (5, 13)}}
    print("same" if found == {{n: 2 * n for n in found}} and len(found) == 8 else found)
    print("killed" if "KilledWorker" in lost[13] else lost)
    print("KeyError" if "KeyError" in lost[5] else lost)
    try:
        list(spread(double, [1, 99], two))
    except StorageError as error:
        print("full" if "full" in str(error) else error)
"""
