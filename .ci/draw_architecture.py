"""Draws documentation/pictures/architecture.svg: the stages, what passes between them, and the rooms.

The rooms are those of [tool.importlinter] in pyproject.toml, so that the picture shows what is checked.

    python .ci/draw_architecture.py [FILE.svg]
"""

from __future__ import annotations

import ast
import re
import sys
from html import escape
from pathlib import Path

HERE = Path(__file__).parents[1]
PICTURE = HERE / "documentation" / "pictures" / "architecture.svg"
# Command, what it does, room that does most of it; and after each what it leaves for the next.
STAGES = (
    ("mmccd_import", "export to dataset", "importing"),
    ("mmccd_plan_and_preprocess", "measure, decide, cut slices", "plans, preprocessing"),
    ("mmccd_train", "networks, recipe, calibration", "training, inference"),
    ("mmccd_predict", "scans to maps", "inference"),
    ("mmccd_evaluate", "maps against labels", "evaluation"),
)
BETWEEN = (
    ("raw dataset", "dataset.json, NIfTI"),
    ("plan and slices", "plans.json, slice_0070.npz"),
    ("model folder", "checkpoint, calibration.json"),
    ("maps", "CASE_anomaly.nii.gz, CASE.json"),
)
ROOM_NOTES = {
    "ready": "models that come with the package",
    "cli": "parse, call, print",
    "workflows": "one function a command",
    "inference": "slices to maps, scores, masks",
    "importing": "export to raw dataset",
    "sources": "what a path holds",
    "training": "one fold",
    "dicom": "DICOM in and out",
    "trained": "checkpoint, model folder",
    "evaluation": "maps against labels",
    "model": "cycle, networks, strips",
    "synthetic_anomalies": "drawn into healthy slices",
    "preprocessing": "scan to slices and back",
    "phantom": "simulated heads",
    "reporting": "pictures and pages",
    "plans": "fingerprint, planner, plan",
    "datasets": "raw data on disk",
    "imaging": "a volume and where it lies",
    "core": "errors, files, records",
}
WIDTH, MARGIN = 1120, 20
STYLE = """text{font-family:Helvetica,Arial,"DejaVu Sans",sans-serif;fill:#1c2b2b}.t{font-size:13px;font-weight:600}
.s{font-size:11.5px;fill:#48595a}.h{font-size:15px;font-weight:600}
.c{font-family:"DejaVu Sans Mono",Menlo,monospace;font-size:11px}
.stage{fill:#d9efec;stroke:#00897b}.file{fill:#fff;stroke:#9fb3b3}.room{fill:#f1f5f5;stroke:#9fb3b3}
.arrow{stroke:#48595a;fill:none}"""


def layers() -> list[list[str]]:
    """Read the rooms as the import linter has them, from the highest down; rooms of one line know nothing of each other."""
    text = (HERE / "pyproject.toml").read_text(encoding="utf-8")
    # tomllib isn't in Python 3.10; the list is one that Python reads as well.
    found = re.search(r'name = "Rooms import downward".*?layers = (\[.*?\n\])', text, re.DOTALL)
    return [line.split(" | ") for line in ast.literal_eval(found.group(1))]


def text(x: float, y: float, words: str, kind: str, anchor: str = "middle") -> str:
    """One line of text, its baseline at y."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Draw a rounded rectangle."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"/>'


def arrow(points: str) -> str:
    """Draw a line with a head at its end."""
    return f'<path d="{points}" class="arrow" marker-end="url(#head)"/>'


def draw_stages(top: float) -> list[str]:
    """Draw the commands from left to right, and below them what each leaves for the next."""
    drawn = [text(MARGIN, top, "What passes between the stages", "h", "start")]
    gap = 16
    step = (WIDTH - 2 * MARGIN + gap) / len(STAGES)
    width = step - gap
    for index, (command, does, rooms) in enumerate(STAGES):
        x = MARGIN + index * step
        drawn += [
            box(x, top + 16, width, 62, "stage"),
            text(x + width / 2, top + 36, command, "c"),
            text(x + width / 2, top + 53, does, "s"),
            text(x + width / 2, top + 70, f"({rooms})", "s"),
        ]
    for index, (name, files) in enumerate(BETWEEN):
        x = MARGIN + (index + 0.5) * step
        middle = x + width / 2
        drawn += [
            box(x, top + 116, width, 46, "file"),
            text(middle, top + 135, name, "t"),
            text(middle, top + 152, files, "s"),
            arrow(f"M{middle - 40:g} {top + 78:g}V{top + 114:g}"),
            arrow(f"M{middle + 40:g} {top + 116:g}V{top + 80:g}"),
        ]
    return drawn


def draw_rooms(top: float) -> tuple[list[str], float]:
    """Draw the rooms, the highest on top; and where the picture ends."""
    drawn = [
        text(MARGIN, top, "The rooms of the package: each imports from those below it only", "h", "start"),
        text(MARGIN, top + 20, "(plans, preprocessing and inference lie beside mmccd_auto/)", "s", "start"),
    ]
    row, y = 44, top + 34
    left, right = MARGIN + 60, WIDTH - MARGIN
    for line in layers():
        width = (right - left - 12 * (len(line) - 1)) / len(line)
        for index, room in enumerate(line):
            x = left + index * (width + 12)
            drawn += [
                box(x, y, width, row - 8, "room"),
                text(x + width / 2, y + 15, room, "t"),
                text(x + width / 2, y + 30, ROOM_NOTES.get(room, ""), "s"),
            ]
        y += row
    bottom = y - 8
    drawn += [
        arrow(f"M{MARGIN + 30} {top + 36:g}V{bottom:g}"),
        f'<text transform="translate({MARGIN + 20} {(top + 34 + bottom) / 2:g}) rotate(-90)" class="s" text-anchor="middle">'
        "imports</text>",
    ]
    return drawn, bottom + MARGIN


def picture() -> str:
    """Draw the picture as SVG, the same each time."""
    stages = draw_stages(34)
    rooms, height = draw_rooms(250)
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#48595a"/></marker></defs>'
    )
    title = "<title>Stages of mmccd_auto, what passes between them, and the direction of imports</title>"
    body = [
        f"<style>{STYLE}</style>",
        title,
        head,
        f'<rect width="{WIDTH}" height="{height:g}" fill="#fff"/>',
        *stages,
        *rooms,
    ]
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">'
    return "\n".join([opening, *body, "</svg>", ""])


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    path.write_text(picture(), encoding="utf-8")
