"""HTML that runs nothing but our own scripts: texts escaped, scripts named by their hashes, no request to outside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

ASSETS = "mmccd_auto.reporting.page"
VIEWER = "niivue/niivue.umd.js"
SCRIPTS = ("element.js", "volumes.js", "outlines.js", "viewer.js", "case.js", "list.js", "start.js")
STYLE = "page.css"


@lru_cache
def asset(name: str) -> str:
    """Return a text that is shipped beside this module."""
    return files(ASSETS).joinpath("assets").joinpath(name).read_text(encoding="utf-8")


@lru_cache
def own_script() -> str:
    """Return the page's own script: its files as one."""
    return "(() => {\n'use strict';\n" + "\n".join(asset(name) for name in SCRIPTS) + "\n})();\n"


def json_block(identifier: str, content: Any) -> str:
    """Return a block of JSON that the page's script reads."""
    return f'<script type="application/json" id="{html.escape(identifier)}">{embedded(json.dumps(content))}</script>\n'


def embedded(text: str) -> str:
    """Write JSON so that nothing in it ends a script element or begins a comment."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def head(title: str, inline: Sequence[str], shared_script: bool = False) -> str:
    """Return the beginning of a page up to its body.

    Parameters
    ----------
    title : of the page, plain text
    inline : the scripts that the page holds; no other is run
    shared_script : also run scripts from the page's own place
    """
    sources = [f"'sha256-{_digest(text)}'" for text in inline] + (["'self'"] if shared_script else [])
    policy = (
        f"default-src 'none'; script-src {' '.join(sources) or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; connect-src 'none'; font-src 'none'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy, quote=False)}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{asset(STYLE)}</style>\n</head>\n"
    )


def script(text: str) -> str:
    """Return an inline script, as :func:`head` allows it."""
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a script that holds the end of its element")
    return f"<script>{text}</script>\n"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
