"""What may be set from outside, read from the environment here and nowhere else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError
from core.reading.limits import GIB, ReadLimits

if TYPE_CHECKING:
    from core.anatomy.engines import EnginePlaces

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """One process's settings. `read_settings` fills them; tests build their own."""

    assets: Path = REPOSITORY / "assets"
    """Samples, the bundled model and the bundled index, as shipped."""
    models: Path = REPOSITORY / "models"
    """ASAP_MODELS: where published weights are looked for; nothing is ever downloaded into it."""
    data: Path = REPOSITORY / "runs" / "data"
    """ASAP_DATA: where this installation keeps what people write (annotations)."""
    database_url: str = ""
    """ASAP_DB: database of annotations; "" stands for an SQLite file in `data`."""
    device: str = "auto"
    """ASAP_DEVICE: where models run, auto, cpu or cuda."""
    totalseg_home: Path | None = None
    """TOTALSEG_HOME_DIR: TotalSegmentator's own folder."""
    totalseg_weights: Path | None = None
    """TOTALSEG_WEIGHTS_PATH: the folder that holds its Dataset... folders."""
    limits: ReadLimits = ReadLimits()
    """ASAP_MAX_UPLOAD_GIB, ASAP_MAX_UNPACKED_GIB, ASAP_MAX_FILES: what may be handed in."""
    host: str = "127.0.0.1"
    """GRADIO_SERVER_NAME: address the page listens on; every address on Hugging Face Spaces (SPACE_ID is set)."""
    port: int = 7860
    """PORT, or GRADIO_SERVER_PORT: where the page listens."""

    @property
    def samples(self) -> Path:
        """One folder per sample case that ships."""
        return self.assets / "sample"

    @property
    def index(self) -> Path:
        """The retrieval index that ships."""
        return self.assets / "index"

    @property
    def organ_net(self) -> Path:
        """Weights of the embedded organ engine."""
        return self.assets / "models" / "organs" / "organ_net.safetensors"

    def organ_places(self, engine: str = "auto", device: str | None = None) -> "EnginePlaces":
        """What the organ engines need; the device is looked for only if `engine` may run a network on it."""
        from core.anatomy.engines import EnginePlaces, list_engines

        wish = device or self.device
        places = EnginePlaces(self.organ_net, self.totalseg_home, self.totalseg_weights)
        may_run = engine != "embedded" and list_engines(places)["totalsegmentator"].can_run
        if wish == "cuda" or (wish == "auto" and may_run):
            from core.grounding.registry import choose_device

            return replace(places, device="cuda" if choose_device(wish) == "cuda" else "cpu")
        return places

    @property
    def annotations_url(self) -> str:
        """The database of annotations, never empty."""
        return self.database_url or f"sqlite:///{self.data / 'annotations.sqlite'}"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from environment variables (`os.environ` unless given); ConfigError names a bad variable."""
    env = os.environ if environment is None else environment
    default = Settings()
    return Settings(
        models=_folder(env, "ASAP_MODELS") or default.models,
        data=_folder(env, "ASAP_DATA") or default.data,
        database_url=env.get("ASAP_DB", "").strip(),
        device=_read_device(env, default.device),
        totalseg_home=_folder(env, "TOTALSEG_HOME_DIR"),
        totalseg_weights=_folder(env, "TOTALSEG_WEIGHTS_PATH"),
        limits=_read_limits(env, default.limits),
        host=env.get("GRADIO_SERVER_NAME", "").strip() or ("0.0.0.0" if env.get("SPACE_ID") else default.host),
        port=_read_port(env, default.port),
    )


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name, "").strip()
    return Path(value).expanduser() if value else None


def _read_device(env: Mapping[str, str], default: str) -> str:
    value = env.get("ASAP_DEVICE", "").strip() or default
    if value not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"ASAP_DEVICE is {value!r}; expected auto, cpu or cuda. Correct or unset the variable.")
    return value


def _read_limits(env: Mapping[str, str], default: ReadLimits) -> ReadLimits:
    return ReadLimits(
        upload_bytes=int(_number(env, "ASAP_MAX_UPLOAD_GIB", default.upload_bytes / GIB) * GIB),
        unpacked_bytes=int(_number(env, "ASAP_MAX_UNPACKED_GIB", default.unpacked_bytes / GIB) * GIB),
        members=int(_number(env, "ASAP_MAX_FILES", default.members)),
    )


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    """A number above 0, or the default when the variable is unset or empty."""
    value = env.get(name, "").strip()
    try:
        number = float(value) if value else default
    except ValueError as error:
        raise ConfigError(f"{name} is {value!r}; expected a number. Correct or unset the variable.") from error
    if not 0 < number < 1e9:
        raise ConfigError(f"{name} is {value}; expected a number above 0. Correct or unset the variable.")
    return number


def _read_port(env: Mapping[str, str], default: int) -> int:
    name = "PORT" if env.get("PORT", "").strip() else "GRADIO_SERVER_PORT"
    value = env.get(name, "").strip()
    if not value:
        return default
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise ConfigError(f"{name} is {value!r}; expected a port from 1 to 65535. Correct or unset the variable.")
    return int(value)
