import pytest
from word_engine import ROWS, WordEngine

from core.retrieval.build import build_index


@pytest.fixture
def engine():
    return WordEngine()


@pytest.fixture
def index(engine):
    return build_index(ROWS, engine).index
