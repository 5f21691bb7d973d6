"""From the values of a raw header to a frame of the index, or the reason why it is left out.

The header decides: the letter of a file name and a FILENAME that contradict it are only reported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from apero_dask.core.frames import UNKNOWN, RawFrame
from apero_dask.core.names import ObjectNames, clean_object_name
from apero_dask.instruments import Instrument
from apero_dask.io.primary import Value

SHARED = (
    "INSTRUME",
    "SIMINST",
    "OBSTYPE",
    "SBCCAS_P",
    "SBCREF_P",
    "SBCALI_P",
    "SBRHB1_P",
    "SBRHB2_P",
    "TRG_TYPE",
    "OBJECT",
    "OBJNAME",
    "PI_NAME",
    "EXPTIME",
    "FRMTIME",
    "NREADS",
)
"""Keywords with the same value in a set of equal exposures; each combination is judged once."""
OWN = ("FILENAME", "CMPLTEXP", "MJDEND")
"""Keywords of the single frame."""
KEYWORDS = SHARED + OWN
"""Everything identification reads."""

Values = tuple[Value | None, ...]

FRAME_NAME = re.compile(r"([0-9]{7}[acdfo])\.fits(?:\.gz)?")
"""Name of a raw frame: odometer, letter of an input frame, ending."""
OTHER_PRODUCT = re.compile(r"[0-9]{7}[rgestvp]\.fits(?:\.gz)?")
"""Ramp and guider cubes and reduced packages that lie beside raw frames: known, and no input."""

OTHER_INSTRUMENT = "other instrument"
BAD_NAME = "name not odometer + letter"
NO_TIME = "no usable time"
FUTURE = "end time more than a day after the scan"

SECONDS_PER_DAY = 86400.0
_POLAR_POSITIONS = frozenset({"P2", "P4", "P14", "P16"})


@dataclass(frozen=True, slots=True)
class Remark:
    """Something odd about a frame that is kept."""

    general: str
    """What is odd, for any frame: used where many frames have the same oddity."""
    detail: str
    """What is odd, with the values of this frame."""
    used: str
    """What is used instead."""


@dataclass(frozen=True, slots=True)
class Identified:
    """Outcome of one header: a frame, or a reason."""

    frame: RawFrame | None
    reason: str = ""
    """Why the frame is left out, empty if it is kept."""
    note: str = ""
    """The values found, for the message."""
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class _Set:
    """What the shared keywords say about every frame of a set."""

    reason: str = ""
    note: str = ""
    dprtype: str = UNKNOWN
    obstype: str = ""
    letter: str = ""
    frame_class: str = ""
    drsmode: str = UNKNOWN
    calibration_field: bool = False
    pi_name: str = ""
    exptime: float | None = None
    """Integration time, s; None if there is none."""
    exptime_note: str = ""
    remarks: tuple[Remark, ...] = ()


def keyword_values(header: Mapping[str, Value]) -> tuple[Values, Values]:
    """Values of :data:`SHARED` and of :data:`OWN`, None where missing; a logical value becomes T or F.

    No keyword here is logical by nature, and as dictionary keys True and 1 would be the same.
    """

    def value(key: str) -> Value | None:
        found = header.get(key)
        return found if not isinstance(found, bool) else "T" if found else "F"

    return tuple(map(value, SHARED)), tuple(map(value, OWN))


def _text(value: Value | None) -> str:
    return "" if value is None else str(value).strip()


def _number(value: Value | None) -> float | None:
    """Finite number, or None; a number written as text counts."""
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def drs_mode(obstype: str, rhomb1: str, rhomb2: str) -> str:
    """SPECTROSCOPY, POLAR or UNKNOWN from upper-case header values.

    Calibration frames carry whatever rhomb positions the last exposure left, so only OBJECT is judged.

    >>> drs_mode("OBJECT", "P16", "P16"), drs_mode("OBJECT", "P14", "P2"), drs_mode("FLAT", "P16", "P16")
    ('SPECTROSCOPY', 'POLAR', 'UNKNOWN')
    """
    if obstype != "OBJECT":
        return UNKNOWN
    if rhomb1 == rhomb2 == "P16":
        return "SPECTROSCOPY"
    return "POLAR" if {rhomb1, rhomb2} <= _POLAR_POSITIONS else UNKNOWN


def target_type(obstype: str, trg_type: str, names: tuple[str, ...]) -> str:
    """TRG_TYPE as identification uses it: empty unless OBSTYPE is OBJECT, SKY by name, else as stated.

    Older headers have no TRG_TYPE; observers mark sky exposures in the name of the target.
    """
    if obstype != "OBJECT":
        return ""
    if any("SKY" in name.upper() for name in names):
        return "SKY"
    return trg_type or "TARGET"


def raw_object_name(header: Mapping[str, Value | None]) -> str:
    """OBJECT, or OBJNAME if it is null: behind a calibration OBJNAME still holds the previous target."""
    name = _text(header.get("OBJECT"))
    return name if clean_object_name(name) else _text(header.get("OBJNAME"))


@dataclass(slots=True)
class Identifier:
    """Identifies headers of one instrument.

    Parameters
    ----------
    instrument
        Whose frames are wanted.
    names
        Alias table of the objects.
    now_mjd
        Time of the scan, MJD (UTC): frames that end more than a day later are left out.
    """

    instrument: Instrument
    names: ObjectNames
    now_mjd: float
    _sets: dict[Values, _Set] = field(default_factory=dict, repr=False)

    def identify(
        self, header: Mapping[str, Value], *, obs_dir: str, path: str, size: int = 0, digest: str = ""
    ) -> Identified:
        """Identify one header.

        Parameters
        ----------
        header
            Values by keyword; a missing keyword counts as empty.
        obs_dir, path
            Night, and path of the file below the raw tree, both with ``/``.  The base name of the path
            must match :data:`FRAME_NAME`.
        size, digest
            Carried over into the frame.
        """
        return self.identify_values(*keyword_values(header), obs_dir, path, size, digest)

    def identify_values(
        self, shared: Values, own: Values, obs_dir: str, path: str, size: int, digest: str
    ) -> Identified:
        """Identify the outcome of :func:`keyword_values`; otherwise as :meth:`identify`."""
        found = self._sets.get(shared)
        if found is None:
            found = self._sets[shared] = self._judge_set(dict(zip(SHARED, shared, strict=True)))
        if found.reason:
            return Identified(None, found.reason, found.note)
        filename, sequence, ended = own
        mjdend = _number(ended)
        if mjdend is None:
            return Identified(None, NO_TIME, _found("MJDEND", ended))
        if mjdend > self.now_mjd + 1.0:
            return Identified(None, FUTURE, f"MJDEND = {mjdend:.5f}")
        exptime = found.exptime
        if exptime is None:
            return Identified(None, NO_TIME, found.exptime_note)

        identifier = path[path.rfind("/") + 1 :][:8]
        remarks = found.remarks
        if filename != identifier:
            identifier, remark = _judge_filename(identifier, _text(filename))
            if remark is not None:
                remarks = (*remarks, remark)
        if found.letter and identifier[-1] != found.letter:
            remark = Remark(
                "the letter of the identifier does not belong to the header",
                f"letter {identifier[-1]}, but the header says {found.dprtype} (letter {found.letter})",
                "the header is used",
            )
            remarks = (*remarks, remark)
        place = _number(sequence)
        frame = RawFrame(
            identifier,
            obs_dir,
            path,
            found.dprtype,
            mjdend - exptime / 2.0 / SECONDS_PER_DAY,
            exptime,
            found.obstype,
            found.frame_class,
            found.drsmode,
            found.pi_name,
            int(place) if place is not None and place > 0 else 0,
            found.calibration_field,
            size,
            digest,
        )
        return Identified(frame, "", found.note, remarks)

    def _judge_set(self, header: Mapping[str, Value | None]) -> _Set:
        get = header.get
        instrume, siminst = _text(get("INSTRUME")), _text(get("SIMINST"))
        if instrume.upper() != self.instrument.instrume.upper():
            return _Set(OTHER_INSTRUMENT, _found("INSTRUME", get("INSTRUME")))
        # Only simulated frames say SIMINST; a frame without it comes from the instrument of INSTRUME.
        if (siminst or instrume).upper() != self.instrument.name.upper():
            return _Set(OTHER_INSTRUMENT, _found("SIMINST", get("SIMINST")))

        obstype = _text(get("OBSTYPE")).upper()
        drsmode = drs_mode(obstype, _text(get("SBRHB1_P")).upper(), _text(get("SBRHB2_P")).upper())
        name = raw_object_name(header)
        target = target_type(
            obstype,
            _text(get("TRG_TYPE")).upper(),
            (clean_object_name(name), _text(get("OBJECT")), _text(get("OBJNAME"))),
        )
        exptime, exptime_note, remarks = _judge_exposure(get("EXPTIME"), get("FRMTIME"), get("NREADS"))
        unknown = _Set(
            obstype=obstype,
            drsmode=drsmode,
            calibration_field=_text(get("OBJECT")).upper() == "CALIBRATION",
            pi_name=_text(get("PI_NAME")),
            exptime=exptime,
            exptime_note=exptime_note,
            remarks=remarks,
        )
        codes = {key: _text(get(key)) for key in ("OBSTYPE", "SBCCAS_P", "SBCREF_P", "SBCALI_P")}
        kind = self.instrument.identify(codes, drsmode, target)
        if kind is None or kind.name == UNKNOWN:
            values = [f"{key} {value or 'missing'}" for key, value in codes.items()]
            if obstype == "OBJECT":
                values += [f"TRG_TYPE {target}", f"mode {drsmode}"]
            return replace(unknown, note=", ".join(values))
        frame_class = kind.frame_class
        if frame_class not in ("CALIB", "SKY"):
            frame_class = self.names.resolve(name)
            if not frame_class:
                # Frames of different stars without a name would be combined into one template.
                return replace(unknown, note=f"{kind.name} without OBJECT and OBJNAME")
        return replace(unknown, dprtype=kind.name, letter=kind.letter, frame_class=frame_class)


def _judge_filename(named: str, filename: str) -> tuple[str, Remark | None]:
    """Identifier by FILENAME, or by the name of the file where FILENAME is none."""
    stated = filename.partition(".")[0].lower()
    if not stated or stated == named:
        return named, None
    usable = FRAME_NAME.fullmatch(stated + ".fits") is not None
    remark = Remark(
        "the file is named differently from FILENAME" if usable else "FILENAME is not odometer + letter",
        f'FILENAME is "{filename}" in a file named {named}',
        "FILENAME is used" if usable else "the name of the file is used",
    )
    return (stated if usable else named), remark


def _judge_exposure(
    stated: Value | None, frame_time: Value | None, reads: Value | None
) -> tuple[float | None, str, tuple[Remark, ...]]:
    """(integration time in s or None, why None, remarks): EXPTIME, or the ramp where EXPTIME is missing."""
    exptime, step, count = _number(stated), _number(frame_time), _number(reads)
    ramp = (count - 1) * step if step is not None and count is not None and step > 0 and count >= 1 else None
    if exptime is None or exptime < 0:
        note = _found("EXPTIME", stated)
        if ramp is None:
            return None, note, ()
        used = "(NREADS - 1) x FRMTIME is used"
        return ramp, "", (Remark("EXPTIME is missing or no time", note, used),)
    if ramp is not None and step is not None and abs(exptime - ramp) > step:
        remark = Remark(
            "EXPTIME is not (NREADS - 1) x FRMTIME",
            f"EXPTIME = {exptime:.3f} s, but (NREADS - 1) x FRMTIME = {ramp:.3f} s",
            "EXPTIME is used",
        )
        return exptime, "", (remark,)
    return exptime, "", ()


def _found(key: str, value: Value | None) -> str:
    return f"{key} is missing" if value is None or value == "" else f'{key} = "{value}"'
