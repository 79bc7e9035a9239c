import pytest

from core.anatomy.engines import EnginePlaces, choose_segmenter, list_engines
from core.errors import ConfigError, EngineError


def test_without_its_network_the_embedded_engine_says_what_is_missing(tmp_path):
    places = EnginePlaces(tmp_path / "organ_net.safetensors", totalseg_home=tmp_path)
    assert not list_engines(places)["embedded"].can_run
    with pytest.raises(EngineError, match="its network is missing"):
        choose_segmenter("auto", places)


def test_auto_takes_the_embedded_engine_where_totalsegmentator_has_no_weights(tmp_path, organ_net):
    places = EnginePlaces(organ_net, totalseg_home=tmp_path)
    assert choose_segmenter("auto", places).name == "embedded"
    with pytest.raises(EngineError, match="totalsegmentator cannot run"):
        choose_segmenter("totalsegmentator", places)


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="auto, totalsegmentator, embedded"):
        choose_segmenter("magic", EnginePlaces(tmp_path))
