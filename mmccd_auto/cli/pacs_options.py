"""The options of mmccd_pacs: the archive, who may be spoken to, and what is worked on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmccd_auto.cli.argument_types import number, whole
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.pacs.dicomweb.access import WebAccess
from mmccd_auto.pacs.dimse.access import DimseAccess, TlsFiles, check_title, parse_destination, parse_place
from mmccd_auto.pacs.limits import GIBIBYTE, Limits
from mmccd_auto.pacs.rules import ANY_BODY_PART, HEAD_WORDS, StudyRules, parse_day, parse_match
from mmccd_auto.workflows.pacs.options import PacsOptions

PASSWORD_VARIABLE = "MMCCD_PACS_PASSWORD"
DEFAULT_DAYS = 1
_LARGEST_PASSWORD = 4096


def add_pacs_options(parser: argparse.ArgumentParser) -> None:
    """Add everything but the model."""
    parser.add_argument("--state", required=True, metavar="FOLDER", help="of the records, and of the work that goes on")
    _add_web_options(parser.add_argument_group("an archive that speaks DICOMweb"))
    _add_dimse_options(parser.add_argument_group("an archive that sends studies by itself (DIMSE)"))
    group = parser.add_argument_group("encryption, for both")
    group.add_argument("--ca_file", type=Path, default=None, metavar="PEM", help="by which the other side is checked")
    group.add_argument("--client_cert", type=Path, default=None, metavar="PEM", help="this side's certificate")
    group.add_argument("--client_key", type=Path, default=None, metavar="PEM", help="its key, unless it is in the same file")
    group = parser.add_argument_group("which studies, and when")
    group.add_argument(
        "--body_parts",
        nargs="+",
        default=list(HEAD_WORDS),
        metavar="WORD",
        help=f"a series is worked on where its body part holds one of them or is not told; {ANY_BODY_PART}: every series",
    )
    group.add_argument(
        "--quiet_time", type=number(0, 86400), default=120.0, metavar="S", help="without new images: the study is complete"
    )
    group.add_argument("--interval", type=number(1, 86400), default=60.0, metavar="S", help="between two looks")
    group.add_argument("--once", action="store_true", help="look one time (with --dicomweb), for cron")
    group.add_argument("--retry_failed", action="store_true", help="work again on studies that failed")
    group.add_argument("--keep_results", action="store_true", help="keep maps and page of each study in the state folder")
    group.add_argument("--most_images", type=whole(1, 1_000_000), default=Limits().instances, metavar="N", help="of a study")
    group.add_argument("--largest_study", type=number(0, 1024, above=True), default=4.0, metavar="GIB", help="that is taken")


def _add_web_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dicomweb", default=None, metavar="URL", help="https://HOST[:PORT]/PATH of the service")
    group.add_argument("--user", default=None, metavar="NAME", help="for basic authentication")
    group.add_argument(
        "--password_file", type=Path, default=None, metavar="FILE", help=f"its first line; default: {PASSWORD_VARIABLE}"
    )
    group.add_argument(
        "--days", type=whole(0, 36500), default=None, metavar="N", help="studies of today and N days before, 1 by default"
    )
    group.add_argument("--since", type=parse_day, default=None, metavar="YYYYMMDD", help="instead of --days")
    group.add_argument(
        "--match",
        nargs="+",
        action="extend",
        type=parse_match,
        default=[],
        metavar="ATTRIBUTE=VALUE",
        help="as StudyDescription=*HEAD*",
    )


def _add_dimse_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--listen", type=parse_place, default=None, metavar="HOST:PORT", help="where studies are waited for")
    group.add_argument("--aet", type=check_title, default="MMCCD", metavar="TITLE", help="this side's AE title")
    group.add_argument(
        "--from_aets", nargs="+", type=check_title, default=[], metavar="TITLE", help="AE titles that may send; no others"
    )
    group.add_argument("--send_to", type=parse_destination, default=None, metavar="AET@HOST:PORT", help="where objects go")


def access_from(options: argparse.Namespace) -> WebAccess | DimseAccess:
    """Give the archive that the options name.

    Raises
    ------
    MMCCDError
        If it is none or two, or options are missing or don't belong together.
    """
    if (options.dicomweb is None) == (options.listen is None):
        raise MMCCDError("mmccd_pacs needs one of --dicomweb (an archive that is asked) and --listen (one that sends).")
    _refuse_without_effect(options)
    if options.dicomweb is not None:
        password = _password(options.password_file) if options.user is not None else None
        files = options.ca_file, options.client_cert, options.client_key
        return WebAccess(options.dicomweb, options.user, password, *files)
    if not options.from_aets or options.send_to is None:
        raise MMCCDError("--listen needs --from_aets (who may send) and --send_to (where the objects go).")
    title, place = options.send_to
    return DimseAccess(options.listen, options.aet, tuple(options.from_aets), place, title, _tls(options))


def _refuse_without_effect(options: argparse.Namespace) -> None:
    """Refuse options that the chosen kind of archive doesn't heed: they may have been meant to narrow what is worked on."""
    web = {
        "--match": options.match,
        "--user": options.user,
        "--password_file": options.password_file,
        "--days": options.days is not None,
        "--since": options.since,
    }
    dimse = {"--from_aets": options.from_aets, "--send_to": options.send_to}
    mode, others = ("--listen", web) if options.dicomweb is None else ("--dicomweb", dimse)
    given = next((flag for flag, value in others.items() if value), None)
    if given:
        raise MMCCDError(f"{given} has no effect with {mode}: leave it out.")
    if options.password_file is not None and options.user is None:
        raise MMCCDError("--password_file needs --user: name whose password it is.")
    if options.client_key is not None and options.client_cert is None:
        raise MMCCDError("--client_key needs --client_cert: give the certificate that it belongs to.")
    files = options.ca_file or options.client_cert
    if files is not None and options.dicomweb is not None and not options.dicomweb.lower().startswith("https://"):
        raise MMCCDError("--ca_file and --client_cert have no effect without encryption: give an address with https://.")


def pacs_options_from(options: argparse.Namespace) -> PacsOptions:
    """How the archive is watched."""
    words = () if ANY_BODY_PART in options.body_parts else tuple(word.upper() for word in options.body_parts)
    return PacsOptions(
        state=Path(options.state),
        rules=StudyRules(DEFAULT_DAYS if options.days is None else options.days, options.since, dict(options.match), words),
        limits=Limits(instances=options.most_images, study_bytes=int(options.largest_study * GIBIBYTE)),
        quiet_seconds=options.quiet_time,
        interval_seconds=options.interval,
        once=options.once,
        retry_failed=options.retry_failed,
        keep_results=options.keep_results,
    )


def _tls(options: argparse.Namespace) -> TlsFiles | None:
    if options.client_cert is None and options.ca_file is None:
        return None
    if options.client_cert is None or options.ca_file is None:
        raise MMCCDError("--listen is encrypted with both --client_cert and --ca_file: give the other one, too.")
    return TlsFiles(options.ca_file, options.client_cert, options.client_key)


def _password(path: Path | None) -> str | None:
    """From a file or the environment: what stands on a command line can be seen by everybody on the machine."""
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(_LARGEST_PASSWORD).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MMCCDError(f"--password_file {path} can't be read ({type(error).__name__}): give a text file.") from error
    if not lines or not lines[0]:
        raise MMCCDError(f"--password_file {path} is empty: write the password into its first line.")
    return lines[0]
