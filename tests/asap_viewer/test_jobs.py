import threading
import time

import pytest

from asap_viewer.jobs import Done, Step, StopFlag, follow
from core.errors import Cancelled, StudyError


def test_steps_come_while_work_goes_on_and_the_value_last():
    def work(progress):
        for third in range(3):
            progress(third / 3, f"part {third + 1}")
            time.sleep(0.05)
        return "masks"

    seen = list(follow(work, StopFlag(), every_s=0.01))
    assert [step.message for step in seen if isinstance(step, Step)] == ["part 1", "part 2", "part 3"]
    assert isinstance(seen[-1], Done)
    assert seen[-1].value == "masks"


def test_a_stop_reaches_the_work_and_is_told():
    stop, ended = StopFlag(), threading.Event()

    def work(progress):
        try:
            while True:
                progress(0.5, "counting")
                time.sleep(0.01)
        finally:
            ended.set()

    steps = follow(work, stop, every_s=0.01)
    next(steps)
    stop.stop()
    with pytest.raises(Cancelled, match="unchanged"):
        list(steps)
    assert ended.wait(2)


def test_closing_the_page_stops_the_work():
    ended = threading.Event()

    def work(progress):
        try:
            while True:
                progress(0.5, "counting")
                time.sleep(0.01)
        finally:
            ended.set()

    steps = follow(work, StopFlag(), every_s=0.01)
    next(steps)
    steps.close()
    assert ended.wait(2)


def test_errors_of_the_work_reach_the_caller():
    def work(progress):
        raise StudyError("no slices")

    with pytest.raises(StudyError, match="no slices"):
        list(follow(work, StopFlag()))
