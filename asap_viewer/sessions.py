"""Who has which CT open. One session never reaches another's: the only key is an unguessable token. No gradio."""

import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from asap_viewer.jobs import StopFlag
from core.anatomy.masks import OrganMasks
from core.errors import StudyError
from core.grounding.engine import PatchFeatures
from core.grounding.heatmap import SentenceGrounding
from core.reading.study import Study
from core.report.parsed import ParsedReport
from core.volume import Volume


@dataclass(eq=False)
class Case:
    """One opened CT and everything worked out about it so far; filled step by step."""

    study: Study
    title: str
    masks: OrganMasks | None = None
    report: ParsedReport | None = None
    features: dict[str, PatchFeatures] = field(default_factory=dict)
    """Engine name -> the CT as that engine sees it."""
    groundings: dict[tuple[str, str], SentenceGrounding] = field(default_factory=dict)
    """(engine name, sentence text) -> where it lives."""
    seeing: threading.Lock = field(default_factory=threading.Lock)
    """Held while an engine encodes the CT, so that two jobs do not do it twice."""

    @property
    def volume(self) -> Volume:
        return self.study.volume

    def forget_report(self) -> None:
        """Drop the report and what was worked out from it."""
        self.report = None
        self.groundings.clear()


@dataclass(eq=False)
class Session:
    """One open page."""

    token: str
    page: str
    """The page's own name for itself (gradio's session hash); ends the session when the page closes."""
    case: Case | None = None
    stop: StopFlag = field(default_factory=StopFlag)
    upload: Path | None = None
    """What was uploaded last, inside `folder`; kept so that another of its series can be opened."""
    series: str | None = None
    """Id of the open series of `upload`."""
    chosen: int = 0
    """Number of the sentence chosen in the report; 0 = none."""
    answers: list[dict] = field(default_factory=list)
    """Questions and answers about the open case, newest first."""
    last_used_s: float = field(default_factory=time.monotonic)
    _folder: Path | None = None
    _side_stops: list[StopFlag] = field(default_factory=list)

    def begin_job(self) -> StopFlag:
        """Stop what runs in this session and give the flag for the next job: opening, organs, the report."""
        self.stop_all()
        self.stop = StopFlag()
        return self.stop

    def begin_side_job(self) -> StopFlag:
        """The flag for a question, a search or an export, which runs beside the job and does not disturb it."""
        flag = StopFlag()
        self._side_stops = [*self._side_stops[-15:], flag]
        return flag

    def stop_all(self) -> None:
        """Ask everything that runs in this session to end."""
        for flag in (self.stop, *self._side_stops):
            flag.stop()

    def require_case(self) -> Case:
        """The open case, or a StudyError that says to open one."""
        if self.case is None:
            raise StudyError("No CT is open here. Open one, or choose a sample case.")
        return self.case

    def fresh_folder(self) -> Path:
        """An empty private folder; what lay in the one before is deleted."""
        self.close_folder()
        self._folder = Path(tempfile.mkdtemp(prefix="asap-case-"))
        return self._folder

    def close_folder(self) -> None:
        """Delete the session's files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self.upload, self.series = None, None, None


class SessionStore:
    """All open pages of this server; the ones idle longest are dropped when there are too many."""

    def __init__(self, most: int = 32) -> None:
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._most = most

    def begin(self, page: str) -> Session:
        """A new session with a token nobody can guess, for the page that calls itself `page`."""
        session = Session(secrets.token_urlsafe(24), page)
        with self._lock:
            self._sessions[session.token] = session
            idle = sorted(self._sessions.values(), key=lambda one: one.last_used_s)[: -self._most]
        for old in idle:
            self.end(old.token)
        return session

    def get(self, token: str) -> Session:
        """The session of a token; StudyError if it ended (server restarted, page open too long)."""
        with self._lock:
            session = self._sessions.get(token)
        if session is None:
            raise StudyError("This page's session has ended (the server restarted or it was idle). Reload the page.")
        session.last_used_s = time.monotonic()
        return session

    def end_page(self, page: str) -> None:
        """End every session of a page that was closed."""
        with self._lock:
            tokens = [token for token, session in self._sessions.items() if session.page == page]
        for token in tokens:
            self.end(token)

    def end(self, token: str) -> None:
        """Stop the session's work and forget its data; harmless when it is already gone."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            session.stop_all()
            session.case = None
            session.close_folder()

    def __len__(self) -> int:
        return len(self._sessions)
