"""Settings of a preset changed by name on the command line: `fixes.padding_masked=false weights.study=0.1`."""

import json
from collections.abc import Sequence
from typing import TypeVar

from core.errors import CheckpointError, ConfigError
from core.models.checkpoint import config_from_json, config_to_json

C = TypeVar("C")


def change_config(config: C, changes: Sequence[str]) -> C:
    """The frozen dataclass `config` with each NAME=VALUE applied; ConfigError for names it does not have.

    NAME is dotted for nested configs, VALUE is JSON (`false`, `0.1`, `[32, 32, 16]`) or a word.
    """
    told = json.loads(config_to_json(config))
    for change in changes:
        name, _, value = change.partition("=")
        *groups, last = name.split(".")
        place = told
        for group in groups:
            place = place.get(group) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or not value:
            known = ", ".join(place) if isinstance(place, dict) else ", ".join(told)
            raise ConfigError(f"Cannot change {change!r} of the model; expected NAME=VALUE with one of {known}.")
        place[last] = _read_value(value)
    try:
        return config_from_json(type(config), json.dumps(told))
    except CheckpointError as error:
        raise ConfigError(f"The changed model is impossible: {error}") from error


def _read_value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
