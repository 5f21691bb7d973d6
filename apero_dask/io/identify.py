"""From the values of a raw header to a frame of the index, or the reason why it is left out.

The header decides: the letter of a file name and a FILENAME that contradict it are only reported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from apero_dask.core.frames import UNKNOWN, RawFrame
from apero_dask.core.names import ObjectNames, clean_object_name
from apero_dask.instruments import Instrument
from apero_dask.io.primary import Value

KEYWORDS = (
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
    "FILENAME",
    "PI_NAME",
    "CMPLTEXP",
    "MJDEND",
    "EXPTIME",
    "FRMTIME",
    "NREADS",
)
"""Everything identification reads; the first eleven decide type and class."""

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
class _Class:
    """What the keywords that do not vary inside a set of exposures say."""

    reason: str = ""
    note: str = ""
    dprtype: str = UNKNOWN
    obstype: str = ""
    letter: str = ""
    frame_class: str = ""
    drsmode: str = UNKNOWN
    calibration_field: bool = False


def _text(value: Value | None) -> str:
    return "" if value is None else str(value).strip()


def _number(value: Value | None) -> float | None:
    """Finite number, or None; a number written as text counts."""
    if value is None or isinstance(value, bool):
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


def raw_object_name(header: Mapping[str, Value]) -> str:
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
    _known: dict[tuple[Value | None, ...], _Class] = field(default_factory=dict, repr=False)

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
        get = header.get
        key = tuple(map(get, KEYWORDS[:11]))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._classify(header)
        if found.reason:
            return Identified(None, found.reason, found.note)

        remarks: list[Remark] = []
        named = path[path.rfind("/") + 1 :].partition(".")[0]
        identifier = self._identifier(named, _text(get("FILENAME")), remarks)

        mjdend = _number(get("MJDEND"))
        if mjdend is None:
            return Identified(None, NO_TIME, _found(header, "MJDEND"))
        if mjdend > self.now_mjd + 1.0:
            return Identified(None, FUTURE, f"MJDEND = {mjdend:.5f}")
        exptime = self._exptime(header, remarks)
        if exptime is None:
            return Identified(None, NO_TIME, _found(header, "EXPTIME"))

        if found.letter and identifier[-1] != found.letter:
            remarks.append(
                Remark(
                    "the letter of the identifier does not belong to the header",
                    f"letter {identifier[-1]}, but the header says {found.dprtype} (letter {found.letter})",
                    "the header is used",
                )
            )
        sequence = _number(get("CMPLTEXP"))
        frame = RawFrame(
            identifier=identifier,
            obs_dir=obs_dir,
            path=path,
            dprtype=found.dprtype,
            mjdmid=mjdend - exptime / 2.0 / SECONDS_PER_DAY,
            exptime=exptime,
            obstype=found.obstype,
            frame_class=found.frame_class,
            drsmode=found.drsmode,
            pi_name=_text(get("PI_NAME")),
            cmpltexp=int(sequence) if sequence is not None and sequence > 0 else 0,
            calibration_field=found.calibration_field,
            size=size,
            digest=digest,
        )
        note = found.note if found.dprtype == UNKNOWN else ""
        return Identified(frame, "", note, tuple(remarks))

    def _classify(self, header: Mapping[str, Value]) -> _Class:
        get = header.get
        instrume, siminst = _text(get("INSTRUME")), _text(get("SIMINST"))
        if instrume.upper() != self.instrument.instrume.upper():
            return _Class(OTHER_INSTRUMENT, _found(header, "INSTRUME"))
        # Only simulated frames say SIMINST; a frame without it comes from the instrument of INSTRUME.
        if (siminst or instrume).upper() != self.instrument.name.upper():
            return _Class(OTHER_INSTRUMENT, _found(header, "SIMINST"))

        obstype = _text(get("OBSTYPE")).upper()
        drsmode = drs_mode(obstype, _text(get("SBRHB1_P")).upper(), _text(get("SBRHB2_P")).upper())
        name = raw_object_name(header)
        target = target_type(
            obstype,
            _text(get("TRG_TYPE")).upper(),
            (clean_object_name(name), _text(get("OBJECT")), _text(get("OBJNAME"))),
        )
        codes = {key: _text(get(key)) for key in ("OBSTYPE", "SBCCAS_P", "SBCREF_P", "SBCALI_P")}
        calibration_field = _text(get("OBJECT")).upper() == "CALIBRATION"
        unknown = _Class(obstype=obstype, drsmode=drsmode, calibration_field=calibration_field)
        kind = self.instrument.identify(codes, drsmode, target)
        if kind is None or kind.name == UNKNOWN:
            values = [f"{key} {value or 'missing'}" for key, value in codes.items()]
            if obstype == "OBJECT":
                values += [f"TRG_TYPE {target}", f"mode {drsmode}"]
            return _replaced(unknown, note=", ".join(values))
        frame_class = kind.frame_class
        if frame_class not in ("CALIB", "SKY"):
            frame_class = self.names.resolve(name)
            if not frame_class:
                # Frames of different stars without a name would be combined into one template.
                return _replaced(unknown, note=f"{kind.name} without OBJECT and OBJNAME")
        return _Class(
            dprtype=kind.name,
            obstype=obstype,
            letter=kind.letter,
            frame_class=frame_class,
            drsmode=drsmode,
            calibration_field=calibration_field,
        )

    @staticmethod
    def _identifier(named: str, filename: str, remarks: list[Remark]) -> str:
        """Identifier by FILENAME, or by the name of the file where FILENAME is none."""
        stated = filename.partition(".")[0].lower()
        if not stated or stated == named:
            return named
        usable = FRAME_NAME.fullmatch(stated + ".fits") is not None
        remarks.append(
            Remark(
                "the file is named differently" if usable else "FILENAME is not odometer + letter",
                f'FILENAME is "{filename}" in a file named {named}',
                "FILENAME is used" if usable else "the name of the file is used",
            )
        )
        return stated if usable else named

    @staticmethod
    def _exptime(header: Mapping[str, Value], remarks: list[Remark]) -> float | None:
        """Integration time, s: EXPTIME, or the ramp's where EXPTIME is missing; None if neither is usable."""
        stated, frame_time, reads = (_number(header.get(key)) for key in ("EXPTIME", "FRMTIME", "NREADS"))
        ramp = None
        if frame_time is not None and reads is not None and frame_time > 0 and reads >= 1:
            ramp = (reads - 1) * frame_time
        if stated is None or stated < 0:
            if ramp is not None:
                remarks.append(
                    Remark(
                        "EXPTIME is missing or negative",
                        _found(header, "EXPTIME"),
                        "(NREADS - 1) x FRMTIME is used",
                    )
                )
            return ramp
        if ramp is not None and frame_time is not None and abs(stated - ramp) > frame_time:
            remarks.append(
                Remark(
                    "EXPTIME is not (NREADS - 1) x FRMTIME",
                    f"EXPTIME = {stated:.3f} s, but (NREADS - 1) x FRMTIME = {ramp:.3f} s",
                    "EXPTIME is used",
                )
            )
        return stated


def _replaced(unknown: _Class, note: str) -> _Class:
    return _Class(
        note=note,
        obstype=unknown.obstype,
        drsmode=unknown.drsmode,
        calibration_field=unknown.calibration_field,
    )


def _found(header: Mapping[str, Value], key: str) -> str:
    value = header.get(key)
    return f"{key} is missing" if value is None or value == "" else f'{key} = "{value}"'
