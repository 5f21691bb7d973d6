"""Certificates of one invocation: whoever can reach a dask scheduler can run programs as its owner."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from distributed.security import Security

DAYS = 60
"""Longer than any walltime."""


class CertificateError(Exception):
    """No certificate can be made; the text says why and what to do."""


def make_certificates(folder: Path) -> Security:
    """Self-signed certificate and key below ``folder``, readable by the owner alone, for all roles.

    Scheduler, workers and client prove with the key that they belong together; anybody else is refused.

    Raises
    ------
    CertificateError
        The program ``openssl`` is missing or fails.
    """
    if shutil.which("openssl") is None:
        raise CertificateError(
            "encrypted connections need the program openssl, which is not on the PATH; install it, or set "
            "tls = false in the site profile if nobody else can reach the nodes"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    mask = os.umask(0o077)
    try:
        done = subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-nodes", "-days", str(DAYS), "-subj", "/CN=apero_dask", "-batch"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.umask(mask)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise CertificateError(
            f"openssl cannot make a certificate in {folder}: {lines[-1] if lines else 'no message'}"
        )
    return Security(
        require_encryption=True,
        tls_ca_file=str(certificate),
        tls_client_cert=str(certificate),
        tls_client_key=str(key),
        tls_scheduler_cert=str(certificate),
        tls_scheduler_key=str(key),
        tls_worker_cert=str(certificate),
        tls_worker_key=str(key),
    )


def remove_certificates(folder: Path) -> None:
    """Remove what :func:`make_certificates` made."""
    shutil.rmtree(folder, ignore_errors=True)
