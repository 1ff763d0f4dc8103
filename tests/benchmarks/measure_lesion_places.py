"""Measure how often the place of a lesion is right, on spheres put into the phantom where its own label maps say what is
there.
    python tests/benchmarks/measure_lesion_places.py --subjects 6

The class of a sphere follows from the person's label maps (deformed with the person), never from a registration. Spheres
whose class is clear lie at least a few mm from where another class begins; the others are drawn anywhere in the tissue.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.imaging.volume import Geometry, Volume, image_from_array
from mmccd_auto.inference.lesions.atlas import load_atlas
from mmccd_auto.inference.lesions.measures import LesionMeasures, measure_lesions, positions_of
from mmccd_auto.inference.lesions.places import (
    DEEP_GREY,
    DEEP_WHITE,
    INFRATENTORIAL,
    JUXTACORTICAL,
    PERIVENTRICULAR,
    Place,
    Places,
)
from mmccd_auto.phantom.subject import Acquisition, deformed, individual, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps

RESOLUTION = 2
RADII_MM = (3.0, 12.0)
TOUCHING_MM = 1.0
CLEAR_MM, CLEAR_SHARE = 5.0, 0.75
LINING_MM = 6.0
BRIGHTER = 1.5
ORDER = (INFRATENTORIAL, DEEP_GREY, PERIVENTRICULAR, JUXTACORTICAL, DEEP_WHITE)


@dataclass(frozen=True)
class Anatomy:
    """A person's own label maps on cubes of RESOLUTION mm, bool [z, y, x], distances in mm."""

    geometry: Geometry
    tissue: np.ndarray
    infratentorial: np.ndarray
    deep_grey: np.ndarray
    ventricle_mm: np.ndarray
    cortex_mm: np.ndarray


@dataclass(frozen=True)
class Sphere:
    """A lesion: its centre (mm, LPS), its radius, its true class, and whether this is clear."""

    centre: np.ndarray
    radius: float
    truth: str
    clear: bool


@dataclass(frozen=True)
class Judged:
    """A sphere, and what was measured of it."""

    sphere: Sphere
    place: Place
    measures: LesionMeasures
    geometry: Geometry


def anatomy_of(seed: int) -> Anatomy:
    """Give the label maps of the person that simulate_subject makes of a seed."""
    maps, atlas = load_tissue_maps(RESOLUTION), load_atlas()
    reference = image_from_array(maps.shares[0], maps.geometry)
    labels = [
        sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0))
        for image in (atlas.ventricles, atlas.infratentorial)
    ]
    # The deformation is the first thing that is drawn from a person's seed, and is the same however many maps it moves.
    random = np.random.default_rng(seed)
    moved = deformed(np.concatenate([maps.shares, np.stack(labels)]), RESOLUTION, random)
    shares = individual(moved[: len(maps.shares)], RESOLUTION, random)
    ventricles, infratentorial = moved[-2] > 0.5, moved[-1] > 0.5
    white, grey, deep_grey, fluid = shares
    ventricle_mm = _distance(ventricles & (fluid > 0.3))
    cortex = (grey > 0.5) & ~infratentorial & (ventricle_mm > LINING_MM)
    tissue = white + grey + deep_grey > 0.5
    return Anatomy(maps.geometry, tissue, infratentorial, deep_grey > 0.5, ventricle_mm, _distance(cortex))


def draw_spheres(anatomy: Anatomy, each: int, random: np.random.Generator) -> list[Sphere]:
    """Draw so many spheres of each class that are clear, and as many that lie anywhere in the tissue."""
    candidates = np.argwhere(anatomy.tissue)
    left = Counter(dict.fromkeys(ORDER, each))
    spheres: list[Sphere] = []
    anywhere = each * len(ORDER)
    for _ in range(20000):
        if not (left.total() or anywhere):
            break
        voxel = candidates[random.integers(len(candidates))]
        radius = float(np.exp(random.uniform(*np.log(RADII_MM))))
        sphere = _classified(anatomy, voxel, radius)
        if anywhere:
            anywhere -= 1
            spheres.append(Sphere(sphere.centre, radius, sphere.truth, False))
        elif sphere.clear and left[sphere.truth] > 0:
            left[sphere.truth] -= 1
            spheres.append(sphere)
    return spheres


def _classified(anatomy: Anatomy, voxel: np.ndarray, radius: float) -> Sphere:
    centre = positions_of(voxel[None], anatomy.geometry)[0]
    reach = int(np.ceil(radius / RESOLUTION))
    around = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    around = around[np.linalg.norm(around, axis=1) * RESOLUTION <= radius] + voxel
    around = around[((around >= 0) & (around < anatomy.tissue.shape)).all(axis=1)]
    ball = tuple(around[anatomy.tissue[tuple(around.T)]].T)
    below, deep = float(anatomy.infratentorial[ball].mean()), float(anatomy.deep_grey[ball].mean())
    ventricle, cortex = float(anatomy.ventricle_mm[ball].min()), float(anatomy.cortex_mm[ball].min())
    if below > 0.5:
        return Sphere(centre, radius, INFRATENTORIAL, below > CLEAR_SHARE)
    above = below < 1 - CLEAR_SHARE
    if deep > 0.5:
        return Sphere(centre, radius, DEEP_GREY, above and deep > CLEAR_SHARE)
    above &= deep < 1 - CLEAR_SHARE
    if ventricle <= TOUCHING_MM:
        return Sphere(centre, radius, PERIVENTRICULAR, above and ventricle == 0)
    above &= ventricle >= CLEAR_MM
    if cortex <= TOUCHING_MM:
        return Sphere(centre, radius, JUXTACORTICAL, above and cortex == 0)
    return Sphere(centre, radius, DEEP_WHITE, above and cortex >= CLEAR_MM)


def grids(volume: Volume) -> dict[str, Geometry]:
    """Give scan grids that hold the whole volume: thick axial slices, sagittal ones, and oblique ones."""
    corners = volume.geometry.corners()
    middle, reach = corners.mean(axis=0), np.linalg.norm(corners - corners.mean(axis=0), axis=1).max() * 0.75
    turns = {
        "axial, 6 mm": (np.eye(3), (1.5, 1.5, 6.0)),
        "sagittal, 5 mm": (np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]]), (1.5, 1.5, 5.0)),
        "oblique, 4 mm": (_rotation(20, 0) @ _rotation(-12, 2) @ np.diag([-1.0, -1, 1]), (1.5, 1.5, 4.0)),
    }
    made = {}
    for name, (direction, spacing) in turns.items():
        size = tuple(int(2 * reach / edge) for edge in spacing)
        origin = middle - direction @ ((np.array(size) - 1) / 2 * spacing)
        made[name] = Geometry(size, spacing, tuple(origin.tolist()), tuple(direction.ravel().tolist()))
    return made


def _rotation(degrees: float, axis: int) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = (other for other in range(3) if other != axis)
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = cosine
    turn[first, second], turn[second, first] = -sine, sine
    return turn


def judge(seed: int, grid_name: str, modality: str, each: int) -> tuple[list[Judged], Places, float]:
    """Scan a person on a grid, put spheres into the scan, measure them; give the judged ones, the fit, and its seconds."""
    random = np.random.default_rng([seed, 1])
    spheres = draw_spheres(anatomy_of(seed), each, random)
    subject = simulate_subject(load_tissue_maps(RESOLUTION), Acquisition(RESOLUTION), (), np.random.default_rng(seed))
    scan, brain = _scanned(subject.scans[modality], grids(subject.scans[modality])[grid_name])
    masks = list(_balls(spheres, scan.geometry))
    marked = np.any(masks, axis=0) & brain
    values = np.where(marked, BRIGHTER * np.percentile(scan.array[brain], 75), scan.array).astype(np.float32)
    load_atlas()
    start = time.perf_counter()
    places = Places.by_template(Volume(values, scan.geometry), brain, marked)
    seconds = time.perf_counter() - start
    judged = []
    for sphere, mask in zip(spheres, masks, strict=True):
        if not mask.any():
            continue
        (whole,) = measure_lesions(mask, values, scan.geometry)
        inside = np.argwhere(mask & brain)
        judged.append(Judged(sphere, places.find(positions_of(inside, scan.geometry)), whole, scan.geometry))
    return judged, places, seconds


def _scanned(volume: Volume, geometry: Geometry) -> tuple[Volume, np.ndarray]:
    """A volume and its brain as slices of another grid show them."""
    reference = image_from_array(np.zeros(tuple(reversed(geometry.size)), np.uint8), geometry)
    parts = []
    for array in (volume.array.astype(np.float32), (volume.array > 0).astype(np.float32)):
        image = sitk.SmoothingRecursiveGaussian(image_from_array(array, volume.geometry), 1.0)
        parts.append(sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, 0.0)))
    brain = parts[1] > 0.5
    return Volume(np.where(brain, parts[0], 0).astype(np.float32), geometry), brain


def _balls(spheres: list[Sphere], geometry: Geometry) -> Iterator[np.ndarray]:
    shape = tuple(reversed(geometry.size))
    positions = positions_of(np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1), geometry)
    for sphere in spheres:
        yield (np.linalg.norm(positions - sphere.centre, axis=1) <= sphere.radius).reshape(shape)


def _distance(mask: np.ndarray) -> np.ndarray:
    return np.maximum(ndimage.distance_transform_edt(~mask) - 0.5, 0) * RESOLUTION


def within_a_layer(judged: Judged) -> bool:
    """Whether a volume lies between those of spheres one voxel smaller and larger."""
    layer = max(judged.geometry.spacing)
    small, large = (4 / 3 * np.pi * max(0.0, judged.sphere.radius + step) ** 3 / 1000 for step in (-layer, layer))
    return small <= judged.measures.volume_ml <= large


def right_side(judged: Judged) -> bool:
    """Whether the side is right, of spheres that lie wholly in one half."""
    return judged.place.side == ("left" if judged.sphere.centre[0] > 0 else "right")


def main() -> None:
    """Print the share of right classes and volumes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=6, help="people; scan grids and modalities are taken in turn")
    parser.add_argument("--each", type=int, default=8, help="spheres of each class in each person")
    arguments = parser.parse_args()
    clear: list[Judged] = []
    others: list[Judged] = []
    for number in range(arguments.subjects):
        grid = ("axial, 6 mm", "sagittal, 5 mm", "oblique, 4 mm")[number % 3]
        modality = ("FLAIR", "T1", "T2", "FLAIR")[number % 4]
        judged, places, seconds = judge(100 + number, grid, modality, arguments.each)
        fit = places.fit
        right = [one.place.place == one.sphere.truth for one in judged if one.sphere.clear]
        print(
            f"{modality}, {grid}: {sum(right)} of {len(right)} right; overlap {fit.overlap:.3f}, surface "
            f"{fit.surface_mm:.1f} mm, likeness {fit.likeness:.2f}, {seconds:.1f} s",
            flush=True,
        )
        clear += [one for one in judged if one.sphere.clear]
        others += [one for one in judged if not one.sphere.clear]
    print("| truth | spheres | right | taken for |\n|---|---|---|---|")
    for name in ORDER:
        found = Counter(one.place.place for one in clear if one.sphere.truth == name)
        wrong = ", ".join(f"{place} {count}" for place, count in found.most_common() if place != name)
        print(f"| {name} | {found.total()} | {100 * found[name] / max(found.total(), 1):.0f} % | {wrong} |")
    for name, group in (("clear", clear), ("anywhere", others)):
        share = np.mean([one.place.place == one.sphere.truth for one in group])
        print(f"{name}: {len(group)} spheres, class right in {100 * share:.1f} %")
    everything = clear + others
    sides = [right_side(one) for one in everything if abs(one.sphere.centre[0]) > one.sphere.radius + CLEAR_MM]
    layers = np.mean([within_a_layer(one) for one in everything])
    errors = [one.measures.longest_diameter_mm - 2 * one.sphere.radius for one in everything]
    print(f"side right in {100 * np.mean(sides):.1f} % of {len(sides)} that lie wholly in one half")
    print(
        f"volume within a voxel layer in {100 * layers:.1f} %; diameter wrong by {np.mean(errors):+.1f} mm on average, "
        f"{np.std(errors):.1f} mm standard deviation"
    )


if __name__ == "__main__":
    main()
