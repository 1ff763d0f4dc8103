"""Certificates for tests: an authority, one for this machine, one for a client, and one that nobody knows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_PLACE = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def make_certificates(folder: Path) -> Path:
    """ca.pem, server.pem, client.pem, stranger.pem, each with its key as NAME.key; the test is skipped without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl (apt-get install openssl)")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ca", "stranger"):
        _openssl(folder, "req", "-x509", *_new(name), "-days", "2", "-out", f"{name}.pem", "-addext", _PLACE)
    for name in ("server", "client"):
        _openssl(folder, "req", *_new(name), "-out", f"{name}.csr")
        (folder / "extensions").write_text(_PLACE)
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
    return folder


def _new(name: str) -> tuple[str, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    return (*curve, "-keyout", f"{name}.key", "-subj", f"/CN={name}")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
