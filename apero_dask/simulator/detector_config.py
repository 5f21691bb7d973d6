"""Section ``detector`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from apero_dask.simulator.settings import setting, switch


@dataclass(frozen=True)
class DetectorConfig:
    """Detector: pixel response, defects, noise, cosmic hits, ramp."""

    ramp: str = setting(
        "direct",
        "How the four planes arise: drawn from their joint distribution, or fitted to every single read "
        "(slow, meant for windows).",
        origin="switch",
        choices=("direct", "full"),
    )
    photon_noise: bool = switch(True, "Poisson noise of light and dark current.")
    read_noise: bool = switch(True, "White noise of a read (level: geometry).")
    saturation: bool = switch(True, "Reads above saturation are left out of the ramp.")
    nominal_side_px: float = setting(
        4096.0,
        "Side of the square detector for which the sizes of blobs and of the smooth response are given; they "
        "scale with the side.",
        unit="px",
        origin="instrument",
        above=0.0,
    )
    dark_current: bool = switch(True, "Dark current.")
    dark_median: float = setting(0.005, "Median dark current.", unit="e-/s", minimum=0.0)
    dark_spread_dex: float = setting(
        0.5, "Log-normal spread of the dark current.", unit="dex", minimum=0.0, maximum=2.0
    )
    background: bool = switch(True, "Diffuse thermal light on all sensitive pixels.")
    background_rate: float = setting(
        0.015, "Diffuse thermal light.", unit="e-/s", origin="published", minimum=0.0
    )
    hot_pixels: bool = switch(True, "Hot pixels.")
    hot_fraction: float = setting(0.006, "Fraction of hot pixels.", minimum=0.0, maximum=0.2)
    hot_minimum: float = setting(5.0, "Smallest rate of a hot pixel.", unit="ADU/s", above=0.0)
    hot_maximum: float = setting(500.0, "Largest rate of a hot pixel.", unit="ADU/s", above=0.0)
    hot_slope: float = setting(1.2, "Hot pixels above a rate r are as many as r**-slope.", above=0.0)
    hot_clustered: float = setting(
        0.2, "Fraction of the hot pixels that lie in clusters.", minimum=0.0, maximum=1.0
    )
    hot_cluster_px: tuple[int, int] = setting((2, 30), "Smallest and largest cluster.", unit="px", minimum=2)
    hot_dense_amplifier: int = setting(
        24, "Amplifier (from 0) with more hot pixels, -1 = none.", origin="measured", minimum=-1
    )
    hot_dense_factor: float = setting(
        12.0, "How many times more hot pixels it has than others.", origin="measured", above=0.0
    )
    dead_pixels: bool = switch(True, "Single pixels of low response.")
    dead_fraction: float = setting(
        0.004, "Fraction of pixels with a response below 0.5.", minimum=0.0, maximum=0.2
    )
    blobs: bool = switch(True, "Round patches of low response.")
    blob_number: int = setting(5, "Number of patches.", minimum=0, maximum=200)
    blob_px: tuple[float, float] = setting(
        (20.0, 80.0), "Diameters on a detector of the nominal side.", unit="px", above=0.0
    )
    telegraph: bool = switch(True, "Pixels that switch between two levels of dark current.")
    telegraph_fraction: float = setting(5e-4, "Fraction of such pixels.", minimum=0.0, maximum=0.2)
    telegraph_rate: float = setting(1.0, "Median height of the upper level.", unit="e-/s", above=0.0)
    telegraph_dwell_s: float = setting(3600.0, "Mean time in one level.", unit="s", above=0.0)
    response: bool = switch(True, "Response differs between pixels.")
    response_white: float = setting(0.02, "Rms from pixel to pixel.", minimum=0.0, maximum=0.3)
    response_smooth: float = setting(0.01, "Rms of the smooth part.", minimum=0.0, maximum=0.3)
    response_scale_px: float = setting(
        300.0,
        "Length of the smooth part on a detector of the nominal side.",
        unit="px",
        above=0.0,
    )
    ipc: bool = switch(True, "Capacitive coupling between neighbouring pixels.")
    ipc_fraction: float = setting(
        0.006, "Part of the signal that each of four neighbours receives.", minimum=0.0, maximum=0.1
    )
    nonlinearity: bool = switch(True, "What is left of the non-linearity after its correction.")
    nonlinearity_residual: float = setting(
        0.002, "Relative loss of signal at 50 000 ADU.", minimum=-0.1, maximum=0.1
    )
    static_pattern: bool = switch(True, "Fixed pattern common to all amplifiers.")
    static_slope: float = setting(0.02, "Rms of its slope.", unit="ADU/s", minimum=0.0)
    static_intercept: float = setting(
        3.0, "Rms of the part that is divided by the exposure time.", unit="ADU", minimum=0.0
    )
    flux_pattern: bool = switch(True, "Coupling of the summed signal of all amplifiers into each of them.")
    flux_coefficients: tuple[float, float, float] = setting(
        (1.490711e-4, 8.080468e-4, -6.523985e-4),
        "Amplitudes of the sum and of its first and second derivative along the read direction.",
        origin="reference pipeline",
    )
    bias: bool = switch(True, "Structure of the intercept plane.")
    bias_columns: float = setting(300.0, "Rms of the column pattern.", unit="ADU", minimum=0.0)
    bias_rms: float = setting(
        1000.0,
        "Rms from pixel to pixel, the same in all frames.",
        unit="ADU",
        origin="published",
        minimum=0.0,
    )
    reset_noise: float = setting(35.0, "Reset noise of a frame.", unit="e-", minimum=0.0)
    common_noise: bool = switch(True, "1/f noise common to all amplifiers.")
    common_noise_e: float = setting(8.0, "Its rms in one read.", unit="e-", minimum=0.0)
    amplifier_noise: bool = switch(True, "1/f noise of each amplifier.")
    amplifier_noise_e: float = setting(3.0, "Its rms in one read.", unit="e-", minimum=0.0)
    noise_knee_hz: float = setting(
        5000.0, "Frequency above which the noise falls off faster than 1/f.", unit="Hz", above=0.0
    )
    pixel_time_us: float = setting(
        10.0, "Time between two pixels of an amplifier.", unit="us", origin="instrument", above=0.0
    )
    line_overhead: float = setting(
        0.0625,
        "Pause after a row, as a fraction of its time.",
        origin="instrument",
        minimum=0.0,
        maximum=10.0,
    )
    amplifier_offsets: bool = switch(True, "Offsets of the even and odd columns of each amplifier.")
    column_offset_e: float = setting(2.0, "Their rms in one read.", unit="e-", minimum=0.0)
    amplifier_drift: bool = switch(True, "Linear drift of each amplifier from the first row to the last.")
    amplifier_drift_e: float = setting(3.0, "Its rms in one read.", unit="e-", minimum=0.0)
    cosmics: bool = switch(True, "Cosmic-ray hits.")
    cosmic_rate: float = setting(1.5, "Hits per square centimetre and minute.", minimum=0.0)
    cosmic_charge_e: float = setting(2000.0, "Median charge of a hit.", unit="e-", above=0.0)
    cosmic_charge_spread: float = setting(
        0.8, "Spread of the charge, natural logarithm.", minimum=0.0, maximum=3.0
    )
    cosmic_track_px: tuple[int, int] = setting((1, 30), "Shortest and longest track.", unit="px", minimum=1)
    error_scatter: float = setting(
        0.05, "Relative scatter of the slope-error plane.", minimum=0.0, maximum=0.5
    )
    persistence: bool = switch(False, "Afterglow of the exposure before.")
    persistence_fraction: float = setting(1e-3, "Part of the earlier charge.", minimum=0.0, maximum=0.5)
    persistence_tau_s: float = setting(100.0, "Time at which the 1/t decay sets in.", unit="s", above=0.0)
    slip_probability: float = setting(
        0.002, "Probability that a frame is read out one pixel off.", minimum=0.0, maximum=1.0
    )

    def problems(self) -> list[tuple[str, object, str]]:
        """Ranges whose ends are in the wrong order."""
        found: list[tuple[str, object, str]] = [
            (key, getattr(self, key), "the smaller value first")
            for key in ("hot_cluster_px", "blob_px", "cosmic_track_px")
            if getattr(self, key)[0] > getattr(self, key)[1]
        ]
        if self.hot_minimum >= self.hot_maximum:
            found.append(("hot_maximum", self.hot_maximum, f"more than hot_minimum = {self.hot_minimum:g}"))
        return found
