import pytest
from word_engine import ROWS, WordEngine, split_only

from core.retrieval.build import build_index


@pytest.fixture
def engine():
    return WordEngine()


@pytest.fixture
def index(engine):
    return build_index(ROWS, engine, parse=split_only).index
