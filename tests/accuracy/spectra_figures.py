"""Table rows of calibrated frames and extracted spectra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from apero_kernels.repair import fill_isolated

from apero_dask.recipes import leak_light, thermal_light
from apero_dask.recipes.calibrated import Calibrated, calibrated
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.flat import LOW_PASS_PARTS
from apero_dask.recipes.spectrum import Spectrum, extract_fibre
from apero_dask.recipes.straight import straighten
from apero_dask.simulator.coupling import couple_neighbours
from apero_dask.simulator.detector import StaticDetector, static_detector
from apero_dask.simulator.paint import PhotonTruth
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.tables import load_instrument
from tests.accuracy import light as measure
from tests.accuracy.detector import cal_orientation
from tests.accuracy.figures import Figure, below, between
from tests.accuracy.geometry import lamp_widths
from tests.accuracy.light import Seen
from tests.accuracy.reduced import Reduced

SEEN_BY = {"AB": "FLAT_DARK", "A": "FLAT_DARK", "B": "FLAT_DARK", "C": "DARK_FLAT"}
"""Flats that are in no flat field, by fibre: it is made from FLAT_FLAT."""
THERMAL_NM = (2300.0, 2450.0)


@dataclass
class Spectra:
    """Extractions with the calibrations of the night."""

    night: Reduced

    @cached_property
    def static(self) -> StaticDetector:
        config = self.night.config
        geometry, _ = load_instrument(config.instrument, config.geometry)
        return static_detector(config.detector, geometry, config.seed)

    @cached_property
    def response(self) -> np.ndarray:
        return cal_orientation(self.static.response, self.night.instrument)

    @cached_property
    def sound(self) -> np.ndarray:
        """Pixels whose response is that of their neighbours and whose level is stable."""
        known = (self.static.classes == 0) & (np.abs(self.static.response - 1) < 0.3)
        return cal_orientation(known, self.night.instrument)

    def context(
        self, recipe: str = "cal_thermal", argument: str = "files", *specs: FrameSpec
    ) -> RecipeContext:
        return self.night.context(recipe, specs, argument)

    def figures(self) -> Iterator[Figure]:
        """Scattered light, flux, noise, flat, blaze, width of lines, leak, thermal light."""
        yield from self._flats()
        yield from self._flat_field()
        yield from self._lamp_lines()
        yield from self._science()

    def _flats(self) -> Iterator[Figure]:
        i = self.night.instrument
        width = round(i.nx / LOW_PASS_PARTS) | 1
        bias, scatter, chi2, left, inside = {}, {}, {}, {}, {}
        for dprtype, fibres in (("FLAT_DARK", ("AB", "A", "B")), ("DARK_FLAT", ("C",))):
            specs = self.night.of_type(dprtype)
            ctx = self.context("cal_loc", "files", *specs)
            whole = calibrated(ctx, "files")
            direct = self.night.light(specs[len(specs) // 2], scatter=False)
            left[dprtype], inside[dprtype] = measure.background_residual(whole.image, direct, self.sound)
            # One exposure is judged, as the truth of one is known.
            spec = specs[0]
            single = calibrated(self.context("cal_loc", "files", spec), "files", statistic="mean")
            ctx = self.context("cal_ff")
            ctx = RecipeContext(replace(ctx.work, recipe="cal_thermal"), ctx.trees, i)
            straight = straighten(ctx, single)
            true = self.night.truth(spec)
            for fibre in fibres:
                found = extract_fibre(ctx, straight, fibre)
                seen = self.night.seen(ctx, true, fibre)
                truth = self.night.spectrum(seen, true, fibre)
                members = ["ABC".index(f) for f in fibre]
                limit = measure.photon_limit(direct, single.base, single.photon, true.trace_px[members], i)
                flat = self.night.file("FLAT", fibre).image("VARIANCE")
                # The flat field has noise of its own, which the spectrum takes over.
                noise = found.variance_ff + np.square(np.nan_to_num(truth)) * flat
                limit = np.sqrt(np.square(limit) + np.square(np.nan_to_num(truth)) * flat)
                judged = measure.flux_figures(found.e2dsff, noise, truth, limit, width)
                bias[fibre], scatter[fibre], chi2[fibre] = judged.bias, judged.scatter, judged.chi2
        yield below(
            "background left between the orders, of the local flux", 3e-4, left,
            note="inside the orders " + ", ".join(f"{v:.1e}" for v in inside.values()),
        )  # fmt: skip
        yield below("extracted flux, bias at S/N > 50", 2e-3, bias, form=".2e")
        yield below(
            "extraction, scatter over the photon limit", 1.10, scatter,
            note="limit on the detector with the noise of the flat field; optimal weights",
        )  # fmt: skip
        yield between("error bars, reduced chi-square", 0.9, 1.15, chi2)

    def _painted_flat(self, frame: Calibrated, light: np.ndarray, response: np.ndarray) -> Calibrated:
        """A frame without noise that has the holes of a measured one."""
        holes = np.isnan(frame.image) | (self.response < 0.5)
        image = couple_neighbours(light * response, self.night.config.detector.ipc_fraction)
        image = np.where(holes, np.nan, image).astype(np.float32)
        whole, base = np.empty_like(image), np.empty_like(image)
        fill_isolated(image, frame.base, whole, base)
        return replace(frame, image=whole)

    def _flat_field(self) -> Iterator[Figure]:
        i = self.night.instrument
        width = round(i.nx / LOW_PASS_PARTS) | 1
        specs = self.night.of_type("FLAT_FLAT")
        spec = specs[len(specs) // 2]
        true, light = self.night.truth(spec), self.night.light(spec, scatter=False)
        frame = calibrated(self.context("cal_loc", "files", *specs), "files", statistic="mean")
        ctx = self.context()
        shown, even = (
            straighten(ctx, self._painted_flat(frame, light, response))
            for response in (self.response, np.ones_like(self.response))
        )
        flats, blazes, worst = {}, {}, {}
        for fibre in i.fibres:
            response = (
                extract_fibre(ctx, shown, fibre, flat=False, cosmics=False).e2ds
                / extract_fibre(ctx, even, fibre, flat=False, cosmics=False).e2ds
            )
            file = self.night.file("FLAT", fibre)
            flats[fibre], _, _ = measure.flat_error(file.image(1), file.image("VARIANCE"), response, width)
            lamp = self.night.spectrum(self.night.seen(ctx, true, fibre), true, fibre, "flat")
            errors = 100 * measure.blaze_errors(self.night.file("BLAZE", fibre).image(1), lamp)
            blazes[fibre] = float(np.sqrt(np.nanmean(np.square(errors))))
            worst[fibre] = (float(np.nanmax(errors)), i.echelle[int(np.nanargmax(errors))])
        yield below("flat, rms error over sigma at S/N > 200", 1.2, flats)
        yield below(
            "blaze, rms relative error where blaze > 0.2", 0.5, blazes, unit=" %",
            note="worst order: " + ", ".join(f"{f} {v:.2f} % (echelle {m})" for f, (v, m) in worst.items()),
        )  # fmt: skip

    def _lamp_lines(self) -> Iterator[Figure]:
        specs = self.night.of_type("HCONE_HCONE")
        frame = calibrated(self.context("cal_loc", "files", *specs), "files", statistic="mean")
        ctx = self.context()
        straight = straighten(ctx, frame)
        true = self.night.truth(specs[0])
        wider, counts = {}, []
        share = self.night.config.detector.ipc_fraction
        light = sum(values[0].astype(float) for values in true.spectra.values())
        light = light + share * (np.roll(light, 1, axis=1) + np.roll(light, -1, axis=1) - 2 * light)
        alone = lamp_widths(true, "A", list(light), None, self.night.instrument)
        coupled = 100 * (float(np.median(alone)) - 1)
        for fibre in "ABC":
            found = extract_fibre(ctx, straight, fibre)
            (seen,) = self.night.seen(ctx, true, fibre)
            ratios = lamp_widths(true, fibre, list(found.e2ds), seen.columns, self.night.instrument)
            wider[fibre], _ = 100 * (float(np.median(ratios)) - 1), counts.append(ratios.size)
        yield below(
            "lamp lines after extraction, FWHM over truth", 3.0, wider, unit=" %",
            note=f"{', '.join(map(str, counts))} lines; the coupling of neighbouring pixels "
            f"alone makes {coupled:.2f} %, the interpolation of straightening the rest",
        )  # fmt: skip

    def _science(self) -> Iterator[Figure]:
        spec = self.night.of_type("OBJ_FP")[0]
        true = self.night.truth(spec)
        ctx = self.context("cal_extract", "files", spec)
        ctx = RecipeContext(replace(ctx.work, science="star", reference="fp"), ctx.trees, ctx.instrument)
        frame = calibrated(ctx, "files", statistic="mean")
        straight = straighten(ctx, frame)
        spectra = {f: extract_fibre(ctx, straight, f) for f in ctx.instrument.fibres}
        seen = {f: self.night.seen(ctx, true, f) for f in spectra}
        yield from self._leak(ctx, spec, frame, spectra)
        yield from self._thermal(ctx, spec, spectra, true, seen)

    def _leak(
        self, ctx: RecipeContext, spec: FrameSpec, frame: Calibrated, spectra: dict[str, Spectrum]
    ) -> Iterator[Figure]:
        """Line-structured part of the light of the reference fibre that the correction leaves."""
        comb = leak_light.without_holes(spectra["C"].e2dsff)
        coupled = self.night.config.detector.ipc_fraction
        dark_reference = replace(spec, dprtype="OBJ_DARK", identifier=f"{spec.identifier}dark")
        lit, dark = (
            straighten(
                ctx,
                replace(frame, image=couple_neighbours(light, coupled).astype(np.float32)),
            )
            for light in (self.night.light(s, scatter=False) for s in (spec, dark_reference))
        )
        master = RecipeContext(replace(ctx.work, recipe="cal_leak"), ctx.trees, ctx.instrument)
        left, formal = {}, {}
        for fibre in ctx.instrument.science_fibres:
            with_comb, without = (
                extract_fibre(ctx, s, fibre, flat=False, cosmics=False, method="two_step").e2ds
                for s in (lit, dark)
            )
            added = with_comb - without
            kernel, _ = leak_light.leak_kernel(master, fibre)
            variance = spectra[fibre].variance
            residual, _ = measure.line_amplitude(
                added - kernel.light(comb), np.nan_to_num(added), 1 / variance
            )
            left[fibre] = 100 * residual
            formal[fibre] = 100 * measure.leak_error(kernel, added, variance)
        frames = len(self.night.of_type("DARK_FP"))
        yield below(
            "leak, line-structured residual over the leak", 2.0, left, unit=" %",
            note="formal error of the reference: " + ", ".join(f"{f} {v:.1f} %" for f, v in formal.items())
            + f"; {frames} DARK_FP in the night",
        )  # fmt: skip

    def _thermal(
        self,
        ctx: RecipeContext,
        spec: FrameSpec,
        spectra: dict[str, Spectrum],
        true: PhotonTruth,
        seen: dict[str, list[Seen]],
    ) -> Iterator[Figure]:
        i = ctx.instrument
        errors, notes = {}, []
        dark = self.night.truth(self.night.of_type("DARK_DARK_INT")[0])
        for fibre, spectrum in spectra.items():
            looks_at = "fp" if fibre in i.reference_fibres else "star"
            clean, cards = thermal_light.remove_thermal(ctx, spectrum, spec.exptime_s, looks_at)
            taken = spectrum.e2dsff - clean.e2dsff
            painted = self.night.spectrum(seen[fibre], true, fibre, "thermal", "sky")
            wave = np.mean(
                [s.of(true.wave_nm["ABC".index(f)]) for s, f in zip(seen[fibre], fibre, strict=True)], axis=0
            )
            with np.errstate(invalid="ignore"):
                use = np.isfinite(taken) & (wave > THERMAL_NM[0]) & (wave < THERMAL_NM[1]) & (painted > 0)
                use &= painted > 0.2 * np.nanmax(painted)
            error = float(np.median(taken[use] / painted[use])) - 1
            if looks_at == "fp":
                # Under a comb it is the light of the dark, some minutes earlier and at another temperature.
                then = self.night.spectrum(seen[fibre], dark, fibre) * spec.exptime_s
                then /= self.night.of_type("DARK_DARK_INT")[0].exptime_s
                drift = float(np.median(then[use] / painted[use])) - 1
                notes.append(f"C: light of the dark differs by {100 * drift:.1f} %, taken off")
                error -= drift
            errors[fibre] = 100 * error
            notes.append(f"{fibre} {cards['THRM_RU'][0]} {100 * cards['THRM_ERR'][0]:.1f} %")
        yield below(
            "thermal light left at 2.3-2.45 um", 2.0, errors, unit=" %",
            note="strength from (formal error): " + "; ".join(notes),
        )  # fmt: skip
