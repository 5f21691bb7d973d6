"""State of instrument and sky from night to night: drifts, cavity, temperature, lamp, weather."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apero_dask.simulator.settings import setting, switch
from apero_dask.simulator.spec import Affine
from apero_dask.simulator.streams import stream


@dataclass(frozen=True)
class EpochConfig:
    """Drifts of the spectrograph, the Fabry-Perot cavity, the lamps and the weather."""

    geometry_drift: bool = switch(True, "Orders move between and within nights.")
    walk_px: float = setting(
        0.02, "Night-to-night random walk of dx and dy, standard deviation per night.", unit="px", minimum=0.0
    )
    walk_matrix: float = setting(
        2e-6, "Night-to-night random walk of the four matrix elements.", minimum=0.0, maximum=1e-3
    )
    night_drift_px: float = setting(0.005, "Linear motion of dx and dy in ten hours.", unit="px")
    thermal_cycle_night: int = setting(
        0,
        "Night (from 1) before which the cryostat is cycled; 0 = as the campaign says, -1 = never.",
        minimum=-1,
    )
    thermal_cycle: tuple[float, float, float, float, float, float] = setting(
        (6.1, 2.3, 4.8e-4, 4.0e-5, -5.7e-4, -6e-6),
        "Jump (dx, dy, A-1, B, C, D-1) of a thermal cycle; dx and dy in pixels.",
        origin="measured",
    )
    cavity_drift: bool = switch(True, "The Fabry-Perot cavity changes its length.")
    cavity_walk_ms: float = setting(0.5, "Random walk of the cavity per night.", unit="m/s", minimum=0.0)
    cavity_trend_ms_yr: float = setting(2.0, "Secular change of the cavity.", unit="m/s/yr")
    thermal_range_k: tuple[float, float] = setting(
        (278.0, 286.0), "Fibre-train temperature of a night lies between these.", unit="K", minimum=200.0
    )
    thermal_night_k: float = setting(
        0.5, "Change of that temperature in ten hours, standard deviation.", unit="K", minimum=0.0
    )
    lamp_ageing: float = setting(1e-3, "Fraction of the lamp flux lost per day.", minimum=0.0, maximum=0.1)
    pwv_mm: float = setting(2.0, "Median water column of a night.", unit="mm", above=0.0, maximum=20.0)
    pwv_spread: float = setting(
        0.6, "Spread of the water column between nights, natural logarithm.", minimum=0.0, maximum=3.0
    )
    pwv_range_mm: tuple[float, float] = setting(
        (0.5, 8.0), "Limits of the water column.", unit="mm", minimum=0.0
    )
    wind_ms: float = setting(
        30.0, "Velocity of the telluric lines of a night, standard deviation.", unit="m/s", minimum=0.0
    )

    def problems(self) -> list[tuple[str, object, str]]:
        """Ranges whose ends are in the wrong order."""
        return [
            (key, value, "the smaller value first")
            for key in ("thermal_range_k", "pwv_range_mm")
            for value in [getattr(self, key)]
            if value[0] > value[1]
        ]


@dataclass(frozen=True, slots=True)
class NightState:
    """What one night of a campaign is like; rates are per day."""

    days: float
    """Since the first night."""
    affine: Affine
    """At 10 h UT, local midnight."""
    affine_rate_px: tuple[float, float]
    cavity_ms: float
    thermal_k: float
    thermal_rate_k: float
    pwv_mm: float
    pwv_rate: float
    """Relative change of the water column."""
    wind_ms: float
    outside_c: float
    humidity_pct: float
    pressure_mbar: float
    lamp_factor: float

    def at(self, fraction: float) -> dict[str, object]:
        """Values of the frame fields at UT day `fraction`, keyed by their names in ``FrameSpec``."""
        since = fraction - 10.0 / 24.0
        a = self.affine
        return {
            "affine": Affine(
                a.dx + self.affine_rate_px[0] * since,
                a.dy + self.affine_rate_px[1] * since,
                a.a,
                a.b,
                a.c,
                a.d,
            ),
            "cavity_ms": self.cavity_ms,
            "thermal_k": self.thermal_k + self.thermal_rate_k * since,
            "pwv_mm": self.pwv_mm * math.exp(self.pwv_rate * since),
            "wind_ms": self.wind_ms,
            "outside_c": round(self.outside_c - 3.0 * since, 2),
            "humidity_pct": round(self.humidity_pct * (1.0 + since), 2),
            "pressure_mbar": round(self.pressure_mbar + 0.5 * math.sin(4.0 * math.pi * fraction), 2),
        }


def night_states(config: EpochConfig, seed: int, days: list[int], cycle_night: int) -> list[NightState]:
    """Walk through the nights of a campaign.

    Parameters
    ----------
    config : section ``epochs``
    seed : campaign seed
    days : days since the first night, increasing
    cycle_night : number (from 1) of the first night after a thermal cycle; 0 or less for none

    Notes
    -----
    Night k draws from its own random stream, so that a campaign made longer keeps its first nights.
    The first night is the reference epoch: its affine is the identity apart from the drift within the night.
    """
    vector = [0.0] * 6
    cavity = 0.0
    states = []
    for k, day in enumerate(days):
        random = stream(seed, "night", k)
        step = random.normal(size=6).tolist()
        step_cavity, night_dx, night_dy = random.normal(size=3).tolist()
        thermal = random.uniform(*config.thermal_range_k)
        thermal_rate, water, water_rate, wind, air = random.normal(size=5).tolist()
        humidity, pressure = random.uniform(5.0, 40.0), random.normal(617.5, 1.2)
        if k > 0:
            sigmas = [config.walk_px] * 2 + [config.walk_matrix] * 4
            vector = [v + s * n for v, s, n in zip(vector, sigmas, step, strict=True)]
            cavity += config.cavity_walk_ms * step_cavity
        if k + 1 == cycle_night:
            vector = [v + j for v, j in zip(vector, config.thermal_cycle, strict=True)]
        dx, dy, a, b, c, d = vector if config.geometry_drift else [0.0] * 6
        # A sign per night and axis: the spectrograph does not always drift the same way.
        rate = config.night_drift_px * 2.4 if config.geometry_drift else 0.0
        low, high = config.pwv_range_mm
        states.append(
            NightState(
                days=float(day),
                affine=Affine(dx, dy, 1.0 + a, b, c, 1.0 + d),
                affine_rate_px=(math.copysign(rate, night_dx), math.copysign(rate, night_dy)),
                cavity_ms=(cavity + config.cavity_trend_ms_yr * day / 365.25) if config.cavity_drift else 0.0,
                thermal_k=float(thermal),
                thermal_rate_k=2.4 * config.thermal_night_k * float(thermal_rate),
                pwv_mm=min(max(config.pwv_mm * math.exp(config.pwv_spread * float(water)), low), high),
                pwv_rate=0.3 * float(water_rate),
                wind_ms=config.wind_ms * float(wind),
                outside_c=2.0 + 1.5 * float(air),
                humidity_pct=float(humidity),
                pressure_mbar=float(pressure),
                lamp_factor=max(0.0, 1.0 - config.lamp_ageing * day),
            )
        )
    return states
