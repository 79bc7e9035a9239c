import pytest

from asap_viewer.sessions import SessionStore
from core.errors import StudyError


def test_a_question_does_not_stop_the_job_beside_it():
    session = SessionStore().begin("page")
    job = session.begin_job()
    question = session.begin_side_job()
    assert not job.is_set()
    assert session.begin_job() is not job
    assert job.is_set()
    assert question.is_set()  # a new CT makes the old question moot


def test_cancel_stops_everything_of_its_session_only():
    store = SessionStore()
    mine, other = store.begin("one"), store.begin("two")
    flags = [mine.begin_job(), mine.begin_side_job()]
    kept = other.begin_job()
    mine.stop_all()
    assert all(flag.is_set() for flag in flags)
    assert not kept.is_set()


def test_an_ended_session_is_stopped_forgotten_and_its_files_deleted():
    store = SessionStore()
    session = store.begin("page")
    flag, folder = session.begin_job(), session.fresh_folder()
    store.end_page("page")
    assert flag.is_set()
    assert not folder.exists()
    with pytest.raises(StudyError, match="Reload the page"):
        store.get(session.token)


def test_the_longest_idle_sessions_go_when_there_are_too_many():
    store = SessionStore(most=2)
    first = store.begin("a")
    kept = [store.begin("b"), store.begin("c")]
    assert len(store) == 2
    with pytest.raises(StudyError):
        store.get(first.token)
    assert [store.get(one.token) for one in kept] == kept
