"""Options that make no sense, by command; each should be a sentence."""

from __future__ import annotations

from small_world import DATASET, NETWORK_OPTIONS

_PREDICT = ("-i", "scans", "-o", "out", "-device", "cpu", "--preset", "fast")
_TRAIN = (*NETWORK_OPTIONS, "--planned_steps", "-np", "0", "--num_epochs", "1", "--iterations_per_epoch", "1", "--overwrite")
_PLAN = ("-d", "7", "-pl", "MMCCDPlannerSmall", "--resolution", "lowres", "-np", "0", "-device", "cpu")
_LABELS = f"mmccd/raw/{DATASET}/labelsTs"
NUMBERS = ("-1", "0", "nan", "inf", "-inf", "1e400", "x", "", "99999999999999999999", "٣")
NAMES = ("../../elsewhere", "/elsewhere", "a/b", "..", "", "x" * 300, "a\nb", "\udcff", "~")


def _each(command: str, base: tuple[str, ...], option: str, values: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    return [(command, (*base, option, value)) for value in values]


def odd_options() -> list[tuple[str, tuple[str, ...]]]:
    """Give (command, arguments) of every try."""
    tries = []
    for option in (
        "--sampling_steps",
        "--strip_stride",
        "--strips_per_pass",
        "--batch_size",
        "--fpr",
        "--threshold",
        "--min_lesion",
    ):
        tries += _each("predict", _PREDICT, option, NUMBERS[:6])
    for option in ("-device", "-m", "--results_folder", "-f", "-c", "-d", "--precision", "--score"):
        tries += _each("predict", _PREDICT, option, ("meta", "../nowhere", "x" * 300))
    for base in (("-i", "nowhere", "-o", "out"), ("-i", "scans", "-o", "scans"), ("-i", "/dev/zero", "-o", "out")):
        tries.append(("predict", base))
    for base in (
        ("-i", "scans", "-o", "figures.json"),
        ("-i", "scans", "-o", "/proc/out"),
        ("-i", "figures.json", "-o", "out"),
    ):
        tries.append(("predict", base))
    tries += [("train", ("7", fold, *_TRAIN)) for fold in ("-1", "5", "00", "x", "", "٣", "../0", "99999999999")]
    for option in ("--num_epochs", "--iterations_per_epoch", "-np"):
        tries += _each("train", ("7", "0", *_TRAIN), option, (*NUMBERS[:1], *NUMBERS[2:4], *NUMBERS[8:9]))
    for option in ("-p", "-tr", "-c"):
        tries += _each("train", ("7", "0", *_TRAIN), option, NAMES[:6])
    tries += _each("plan_and_preprocess", (*_PLAN, "--no_pp"), "-overwrite_plans_name", NAMES)
    for option in ("-gpu_memory_target", "-overwrite_target_spacing", "--time_budget", "-np"):
        tries += _each("plan_and_preprocess", (*_PLAN, "--no_pp"), option, (*NUMBERS[:1], *NUMBERS[2:6]))
    tries += [("plan_and_preprocess", ("-d", name, "--no_pp", "-device", "cpu")) for name in ("999", "x", "../x", "-7")]
    tries += _each("calibrate", ("7", *NETWORK_OPTIONS), "--max_slices", NUMBERS[:4])
    tries += _each("find_best_configuration", ("7", *NETWORK_OPTIONS), "--per_kind", NUMBERS[:4])
    tries += _each("cross_validate", ("7", *NETWORK_OPTIONS, "-np", "0"), "-f", ("9", "x", "../0"))
    for option in ("--erosion", "-np"):
        tries += _each("evaluate", ("-ref", _LABELS, "-pred", "maps"), option, ("-1", "nan", "inf"))
    tries += [
        ("evaluate", ("-ref", "nowhere", "-pred", "maps")),
        ("evaluate", ("-ref", _LABELS, "-pred", "scans", "-np", "0")),
    ]
    tries += [
        ("import_export", ("-i", "export.zip", "--healthy", "-d", number, "-n", "New"))
        for number in ("-1", "7", "1000", "x")
    ]
    tries += [("import_export", ("-i", "export.zip", "--healthy", "-d", "9", "-n", name)) for name in NAMES]
    tries += _each(
        "import_export", ("-i", "export.zip", "-d", "9", "-n", "New"), "--series", ("FLAIR", "=", "X=Y", "FLAIR=")
    )
    return tries
