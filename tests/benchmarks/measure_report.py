"""Measure what the report costs: time beside that of the prediction, the index's size, and how soon it opens.

    python tests/benchmarks/measure_report.py --maps OUT --scans SCANS --cases 100

OUT is what mmccd_predict wrote from the NIfTI folder SCANS. Its cases are taken again and again until there are enough.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from mmccd_auto.core.files import load_json
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.reporting.page.assemble import CaseContent, ListRow, PageInfo, write_report
from mmccd_auto.reporting.page.part import CaseArrays, CasePart, Marking, SliderStep, make_part, write_part

STEPS = tuple(SliderStep(float(rate), float(0.4 * np.log(1 / rate))) for rate in np.geomspace(2e-4, 0.05, 49))
FLAGS = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run")


def part_of(record: dict, maps: Path, scans: Path) -> CasePart:
    """Make the part of a case from its files."""
    case = record["case"]
    scan = read_volume(scans / record["input_file"], warn=False)
    read = {name: read_volume(maps / f"{case}_{name}.nii.gz").array for name in ("anomaly", "mask", "candidates")}
    arrays = CaseArrays(scan.array, read["anomaly"], read["anomaly"] > 0, read["mask"], read["candidates"])
    marking = Marking(record["threshold"], record["least_lesion_mm3"], STEPS, 20)
    started = time.perf_counter()
    part = make_part(arrays, scan.geometry, marking)
    part_of.seconds += time.perf_counter() - started
    return part


def opening_seconds(page: Path) -> float | None:
    """Open a page in Chromium until its list is there; None where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        opened = browser.new_page()
        begin = time.perf_counter()
        opened.goto(f"file://{page}")
        opened.wait_for_selector("#cases tbody tr:last-child")
        seconds = time.perf_counter() - begin
        browser.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=100)
    options = parser.parse_args()
    records = [load_json(path) for path in sorted(options.maps.glob("*.json"))]
    part_of.seconds = 0.0
    predicted = written = 0.0
    with tempfile.TemporaryDirectory() as name:
        output, contents, rows = Path(name), {}, []
        for number, record in zip(range(options.cases), itertools.cycle(records), strict=False):
            part = part_of(record, options.maps, options.scans)
            case = f"case {number:03d}"
            begin = time.perf_counter()
            write_part(part, output / f"{number}_page.json.gz")
            written += time.perf_counter() - begin
            predicted += record["seconds"]
            contents[case] = CaseContent(record, output / f"{number}_page.json.gz")
            rows.append(ListRow(case, "done", "", (), record["finding"], case_score=record["case_score"]))
        begin = time.perf_counter()
        index = write_report(output, PageInfo("Report", "", ()), rows, lambda row: contents[row.case])
        pages = time.perf_counter() - begin
        largest = max(len(path.read_bytes()) for path in output.rglob("*.html"))
        print(f"{options.cases} cases: prediction {predicted:.1f} s")
        print(f"parts made {part_of.seconds:.1f} s, written {written:.1f} s; pages {pages:.1f} s")
        print(f"share of the prediction's time: {100 * (part_of.seconds + written + pages) / predicted:.1f} %")
        print(f"report.html {index.stat().st_size / 1e6:.2f} MB, largest page {largest / 1e6:.2f} MB")
        seconds = opening_seconds(index)
        print("no Chromium to open it" if seconds is None else f"report.html opens in {seconds:.2f} s")


if __name__ == "__main__":
    main()
