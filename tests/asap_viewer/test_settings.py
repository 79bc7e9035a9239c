from pathlib import Path

import pytest

from asap_viewer.settings import Settings, read_settings
from core.errors import ConfigError


def test_nothing_set_gives_the_defaults():
    assert read_settings({}) == Settings()


def test_an_empty_variable_counts_as_unset():
    assert read_settings({"PORT": "", "ASAP_MODELS": " ", "ASAP_MAX_UPLOAD_GIB": ""}) == Settings()


def test_every_variable_arrives():
    settings = read_settings(
        {
            "ASAP_MODELS": "/m",
            "ASAP_DATA": "/d",
            "ASAP_DEVICE": "cuda",
            "TOTALSEG_HOME_DIR": "/t",
            "TOTALSEG_WEIGHTS_PATH": "/w",
            "ASAP_MAX_UPLOAD_GIB": "0.5",
            "ASAP_MAX_FILES": "12",
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": "8001",
        }
    )
    assert settings.device == "cuda"
    assert settings.models == Path("/m")
    assert settings.annotations_url == "sqlite:////d/annotations.sqlite"
    assert (settings.totalseg_home, settings.totalseg_weights) == (Path("/t"), Path("/w"))
    assert settings.limits.upload_bytes == 2**29
    assert settings.limits.members == 12
    assert (settings.host, settings.port) == ("0.0.0.0", 8001)


def test_a_space_is_reachable_from_outside():
    assert read_settings({"SPACE_ID": "someone/viewer"}).host == "0.0.0.0"


def test_port_wins_over_gradios_own_variable():
    assert read_settings({"PORT": "9000", "GRADIO_SERVER_PORT": "8001"}).port == 9000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "http"),
        ("ASAP_DEVICE", "tpu"),
        ("ASAP_MAX_UPLOAD_GIB", "much"),
        ("ASAP_MAX_FILES", "-3"),
    ],
)
def test_a_bad_value_is_named(name, value):
    with pytest.raises(ConfigError, match=name):
        read_settings({name: value})
