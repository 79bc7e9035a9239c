"""Everything a user can mend. Each message says what was found, what was expected, what to do."""


class AsapError(Exception):
    """Base of the errors that are shown to a user as one sentence; anything else is our bug."""


class StudyError(AsapError):
    """The CT cannot be read, or is not something this program can use."""


class ReportError(AsapError):
    """The report or question cannot be used."""


class ConfigError(AsapError):
    """A setting or an argument is impossible."""


class CheckpointError(AsapError):
    """A weights file does not fit the model."""


class EngineError(AsapError):
    """An engine cannot run here; the message says what is missing and how to get it."""


class IndexFileError(AsapError):
    """A retrieval index or its source table cannot be used."""


class StorageError(AsapError):
    """Results cannot be kept, as on a full disk: work stops, and what was finished before stays valid."""


class AnnotationError(AsapError):
    """An annotation cannot be stored or exported."""


class Cancelled(AsapError):  # noqa: N818  (not a fault: the person pressed Cancel)
    """The person asked to stop; nothing was changed."""
