"""An archive that answers wrongly, or is not the one that is meant, costs a sentence and nothing else."""

from __future__ import annotations

import io
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from certificates import make_certificates
from dicom_writing import FLAIR, make_images, with_tags
from pacs_world import PASSWORD, USER

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.pacs.archive import Unreachable
from mmccd_auto.pacs.dicomweb.access import WebAccess
from mmccd_auto.pacs.dicomweb.client import DicomWebArchive
from mmccd_auto.pacs.dicomweb.session import BoundedSession
from mmccd_auto.pacs.limits import Limits
from mmccd_auto.pacs.rules import StudyRules

Answer = tuple[int, dict[str, str], bytes]
STUDY, SERIES = FLAIR.study, FLAIR.series_uid
BOUNDARY = "mmccd-parts"


def in_json(content: object) -> Answer:
    return 200, {"Content-Type": "application/dicom+json"}, json.dumps(content).encode()


def entry(**values: object) -> dict[str, object]:
    tags = {"study": "0020000D", "series": "0020000E", "modality": "00080060", "images": "00201209", "part": "00180015"}
    return {tags[name]: {"vr": "UI", "Value": [value]} for name, value in values.items()}


def in_parts(*parts: bytes) -> Answer:
    body = b"".join(b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (BOUNDARY.encode(), part) for part in parts)
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    return 200, {"Content-Type": kind}, body + b"--%s--" % BOUNDARY.encode()


def image(number: int = 0, **tags: object) -> bytes:
    content = io.BytesIO()
    dataset = make_images(with_tags(FLAIR, **tags) if tags else FLAIR)[number]
    pydicom.dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


@contextmanager
def archive_that_says(answer: Callable[[str], Answer], tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server on loopback; gives its address, and the Authorization headers that it was sent."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization", ""))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}/dicom-web", heard
        finally:
            server.shutdown()


def client(url: str, limits: Limits | None = None, **access: object) -> DicomWebArchive:
    return DicomWebArchive(WebAccess(url, **access), StudyRules(since="20190101"), limits or Limits())


def one_series(parts: Answer, images: int = 1) -> Callable[[str], Answer]:
    """Answers as an archive that holds one series."""
    return lambda path: (
        in_json([entry(series=SERIES, modality="MR", images=images)]) if path.split("?")[0].endswith("series") else parts
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), r"leads elsewhere \(a redirection\)"),
        ((500, {}, b"<p>ZZNAME</p>"), r"refuses to search for studies \(status 500\): see its log"),
        ((200, {"Content-Type": "text/html"}, b"<p>ZZNAME</p>"), r"does not answer|can't be understood"),
        ((200, {}, b"[" * 100_000), r"does not answer|can't be understood"),
        (in_json([{"x": "y" * 2000}] * 1000), r"larger than 1 MiB"),
        (in_json(None), r"can't be understood"),
        (in_json(5), r"can't be understood"),
    ],
    ids=["redirection", "failure", "no json", "deep", "large", "null", "number"],
)
def test_wrong_answers_to_a_search(answer: Answer, expected: str) -> None:
    with (
        archive_that_says(lambda _: answer) as (url, _),
        pytest.raises(MMCCDError, match=expected) as caught,
    ):
        list(client(url, Limits(answer_bytes=2**20)).studies())
    assert "ZZNAME" not in str(caught.value)


def test_numbers_that_would_lead_elsewhere_are_passed_over(caplog) -> None:
    odd = ["../../etc", "1.2/3", "1..2", "", "1" * 65, "/1.2", "1.2\n", 12, None, "1.2.3"]
    with archive_that_says(lambda _: in_json([*(entry(study=value) for value in odd), {}, [], "x"])) as (url, _):
        assert list(client(url).studies()) == ["1.2.3"]
    # This server knows no offsets, and is asked once more.
    assert caplog.text.count("A study is passed over") == 2 * (len(odd) + 2)
    assert "etc" not in caplog.text


def test_every_page_is_asked_for_also_where_pages_are_short() -> None:
    def page(path: str) -> Answer:
        offset = int(parse_qs(urlsplit(path).query).get("offset", ["0"])[0])
        return in_json([entry(study=f"1.2.{number}") for number in range(offset, min(offset + 7, 30))])

    with archive_that_says(page) as (url, _):
        assert list(client(url).studies()) == [f"1.2.{number}" for number in range(30)]


def test_packed_objects_are_seen_however_the_answer_is_cut(tmp_path: Path) -> None:
    session = BoundedSession(WebAccess("http://127.0.0.1:1"), 2**20, 60.0)
    for parts in ([b"1.2.840.1", b"0008.1", b".2.1.99"], [bytes([one]) for one in b"1.2.840.10008.1.2.1.99"]):
        with pytest.raises(MMCCDError, match="packed"):
            list(session._bounded(iter(parts), time.monotonic() + 60))


def test_a_server_that_gives_the_first_page_again_is_not_asked_for_ever() -> None:
    page = [entry(study=f"1.2.{number}") for number in range(100)]
    with archive_that_says(lambda _: in_json(page)) as (url, heard):
        assert len(list(client(url).studies())) == 100
    assert len(heard) == 2


@pytest.mark.parametrize(
    ("parts", "images", "kind", "expected"),
    [
        (in_parts(image(StudyInstanceUID="1.2.3")), 1, MMCCDError, "belongs to another study"),
        (in_parts(image(SOPInstanceUID="../1")), 1, MMCCDError, "UID is missing or malformed"),
        (in_parts(b"no DICOM"), 1, MMCCDError, "can't be understood"),
        (in_parts(image()), 2, Unreachable, "gave 1 of 2 images"),
        (in_parts(image(0), image(1), image(2), image(3)), 1, MMCCDError, "more than 3 images"),
        (in_parts(image().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")), 1, MMCCDError, "packed"),
        ((404, {}, b""), 1, Unreachable, r"refuses to give a series \(status 404\)"),
    ],
    ids=["another study", "a path", "no DICOM", "too few", "too many", "packed", "gone"],
)
def test_wrong_images(parts: Answer, images: int, kind: type, expected: str, tmp_path: Path) -> None:
    with (
        archive_that_says(one_series(parts, images)) as (url, _),
        pytest.raises(kind, match=expected) as caught,
    ):
        client(url, Limits(instances=3)).fetch(STUDY, tmp_path / "in")
    assert not isinstance(caught.value, Unreachable) or kind is Unreachable


def test_images_that_are_not_wanted_do_not_stay(tmp_path: Path) -> None:
    parts = in_parts(image(0), image(1, BodyPartExamined="KNEE"))
    with archive_that_says(one_series(parts, 2)) as (url, _):
        archive = client(url)
        assert archive.count(STUDY) == 2
        archive.fetch(STUDY, tmp_path / "in")
    (path,) = (tmp_path / "in").iterdir()
    assert path.name == "000001.dcm"


def test_an_object_that_is_not_stored_is_told_of(tmp_path: Path) -> None:
    refused = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}
    path = tmp_path / "object.dcm"
    path.write_bytes(image())
    with (
        archive_that_says(lambda _: in_json(refused)) as (url, _),
        pytest.raises(Unreachable, match=r"does not store an object \(reason: 272\)"),
    ):
        client(url).store(STUDY, [path])


@pytest.mark.parametrize("holds", [True, False])
def test_an_object_that_is_there_already_is_stored(holds: bool, tmp_path: Path) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(image())
    number = str(pydicom.dcmread(path).SOPInstanceUID)

    def answer(asked: str) -> Answer:
        if "/instances?" in asked:
            return in_json([{"00080018": {"vr": "UI", "Value": [number if holds else "1.2.3"]}}])
        return 409, {}, b""

    with archive_that_says(answer) as (url, _):
        if holds:
            client(url).store(STUDY, [path])
        else:
            with pytest.raises(Unreachable, match=r"refuses to store an object \(status 409\)"):
                client(url).store(STUDY, [path])


def test_encryption_and_who_is_who(tmp_path: Path, monkeypatch) -> None:
    files = make_certificates(tmp_path)
    # What the environment says counts for nothing.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files / "stranger.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "server.pem", files / "server.key")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    known = {"ca_file": files / "ca.pem", "user": USER, "password": PASSWORD}
    proof = {"client_certificate": files / "client.pem", "client_key": files / "client.key"}
    stranger = {"client_certificate": files / "stranger.pem", "client_key": files / "stranger.key"}
    with archive_that_says(lambda _: in_json([entry(study="1.2.3")]), context) as (url, heard):
        assert list(client(url, **known, **proof).studies()) == ["1.2.3"]
        assert set(heard) == {"Basic bW1jY2Q6R2VoZWltLTQ3MTE="}
        for wrong in (known, known | stranger, proof, known | proof | {"ca_file": files / "stranger.pem"}):
            with pytest.raises(Unreachable, match=r"certificate is not trusted|does not answer"):
                list(client(url, **wrong).studies())
        assert len(heard) == 2


@pytest.mark.parametrize(
    ("url", "more", "expected"),
    [
        ("ftp://host/x", {}, "is no address"),
        ("http://host:x/", {}, "is no address"),
        ("https://user:secret@host/", {}, "which others can see"),
        ("http://host/x", {"user": "u", "password": "secret"}, "would be sent readably"),
        ("https://host/x", {"user": "u"}, "needs a password"),
        ("https://host/x", {"ca_file": Path("nowhere.pem")}, "is no file"),
    ],
)
def test_addresses_that_are_refused(url: str, more: dict[str, object], expected: str) -> None:
    with pytest.raises(MMCCDError, match=expected) as caught:
        WebAccess(url, **more)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(WebAccess("https://host/x", "u", "secret"))
