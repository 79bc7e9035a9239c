"""A quicker start: gradio without the type stubs that it writes beside every component at each import."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_stubs() -> Iterator[None]:
    """While this lasts, gradio takes its components for classes without a file and writes no stub for them.

    Parsing and writing the stubs takes half of gradio's import (2.0 of 4.1 s measured), and leaves .pyi files in this
    package. If a later gradio asks in another way, only the time is lost again.
    """
    find_file = inspect.getfile

    def find_file_unless_component(thing: object) -> str:
        if type(thing).__name__ == "ComponentMeta":
            raise OSError("components have no stubs here")
        return find_file(thing)  # type: ignore[arg-type]

    inspect.getfile = find_file_unless_component  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = find_file
