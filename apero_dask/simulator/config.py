"""The one configuration of the simulator.

``SimulatorConfig`` holds one frozen section per subject.  A further section is plugged in by giving
``SimulatorConfig`` a field whose type is a dataclass made of :func:`settings.setting` fields;
reading, checking and documentation follow from the field.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apero_dask.simulator.atmosphere import AtmosphereConfig
from apero_dask.simulator.campaign import CampaignConfig
from apero_dask.simulator.cavity import CavityConfig
from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.epochs import EpochConfig
from apero_dask.simulator.lines import LinesConfig
from apero_dask.simulator.optics import OpticsConfig
from apero_dask.simulator.scene import SceneConfig
from apero_dask.simulator.settings import (
    ConfigError,
    check_section,
    convert,
    document_section,
    read_section,
    toml_value,
    unknown_key_message,
)
from apero_dask.simulator.sources import SourcesConfig
from apero_dask.simulator.tables import GeometryConfig, load_instrument
from apero_dask.simulator.truth import OutputConfig


@dataclass(frozen=True)
class SimulatorConfig:
    """Everything that decides the pixels of a campaign, together with its frame specifications."""

    instrument: str = "SPIROU"
    """``SPIROU``, ``SPIROU_MINI`` or the name of a geometry of the configuration."""
    seed: int = 1
    """Every random number follows from it, the frame index and the name of the effect."""
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    optics: OpticsConfig = field(default_factory=OpticsConfig)
    cavity: CavityConfig = field(default_factory=CavityConfig)
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    scene: SceneConfig = field(default_factory=SceneConfig)
    atmosphere: AtmosphereConfig = field(default_factory=AtmosphereConfig)
    lines: LinesConfig = field(default_factory=LinesConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    campaign: CampaignConfig = field(default_factory=CampaignConfig)
    epochs: EpochConfig = field(default_factory=EpochConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        convert(self.seed, int, "seed")
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed!r}: expected a whole number from 0; choose another 'seed'.")
        for name, section in self.sections().items():
            check_section(section, name)
        load_instrument(self.instrument, self.geometry)

    def sections(self) -> dict[str, Any]:
        """Sections by name, in the order of the document."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if dataclasses.is_dataclass(getattr(self, f.name))
        }

    def digest(self) -> str:
        """Hexadecimal digest of every value: two configurations with one digest paint the same."""
        return hashlib.sha256(document(self).encode()).hexdigest()


def read_config(path: str | Path) -> SimulatorConfig:
    """Read a TOML configuration file.

    Raises
    ------
    ConfigError
        The file is missing, is not TOML, or holds an unknown key or an impossible value.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            values = tomllib.load(stream)
    except FileNotFoundError:
        raise ConfigError(
            f"Simulator configuration {path} does not exist; "
            "give the path of a TOML file or leave the option out."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"Simulator configuration {path} cannot be read: {error.strerror}; give the path of a TOML file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Simulator configuration {path} is not valid TOML: {error}; correct it.") from None
    return make_config(values)


def make_config(values: Mapping[str, Any]) -> SimulatorConfig:
    """Build the configuration from nested mappings, as :mod:`tomllib` returns them.

    Raises
    ------
    ConfigError
        Unknown key, wrong type or impossible value.
    """
    fields = {f.name: f for f in dataclasses.fields(SimulatorConfig)}
    hints = typing.get_type_hints(SimulatorConfig)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(unknown_key_message(key, fields, ""))
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            arguments[key] = read_section(hint, value, key)
        else:
            arguments[key] = convert(value, hint, key)
    return SimulatorConfig(**arguments)


def document(config: SimulatorConfig) -> str:
    """The configuration as commented TOML; reading it back gives an equal configuration."""
    parts = [
        f"# Configuration of the raw-frame simulator\ninstrument = {toml_value(config.instrument)}\n"
        f"seed = {config.seed}\n"
    ]
    parts += [document_section(section, name) for name, section in config.sections().items()]
    return "\n".join(parts)
