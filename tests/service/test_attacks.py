"""What a server must withstand: files, forms and requests that are made to do harm."""

import asyncio
import gzip
import http.client
import io
import json
import socket
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from pydicom.uid import DeflatedExplicitVRLittleEndian
from starlette.exceptions import HTTPException
from tests.dicom_series import PATIENT, write_series
from tests.service.conftest import LARGEST, TOKEN, Server, finish, wait_until

from sfumato.errors import ConfigError, FileError, ServerError
from sfumato.image.files import read_image
from sfumato.service.client import ServiceClient
from sfumato.service.inspection import Room, inspect
from sfumato.service.serving import check_address
from sfumato.service.token import is_token, read_token
from sfumato.service.uploads import UploadLimits, limited, receive_form

ROOM = Room(n_bytes=1_000_000, n_elements=1_000_000)


def ask(
    server: Server,
    method: str,
    place: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    try:
        connection.request(method, place, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


# ---- files ----


def refusal(folder: Path, name: str, content: bytes, room: Room = ROOM) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_image(inspect(folder, "case", [name], room).image_paths[0])
    return str(caught.value)


def zipped(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def nifti_bytes(shape: tuple[int, ...] = (4, 4, 4)) -> bytes:
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4))
    content: bytes = image.to_bytes()
    return content


def test_a_zip_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = zipped(("a.nii", b"\0" * 10_000_000))
    assert len(bomb) < 20_000
    assert "unpacks to more than" in refusal(tmp_path / "in", "0.zip", bomb)
    lying = bytearray(zipped(("a.nii", nifti_bytes())))
    place = lying.rindex(b"PK\x01\x02") + 24
    lying[place : place + 4] = struct.pack("<I", 10)
    assert "damaged" in refusal(tmp_path / "lying", "0.zip", bytes(lying))


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "in"
    folder.mkdir(parents=True)
    evil = zipped(
        ("../../evil.nii", nifti_bytes()),
        ("/tmp/evil_sfumato.nii", nifti_bytes()),
        ("..\\..\\evil.nii", nifti_bytes()),
    )
    (folder / "0.zip").write_bytes(evil)
    record = inspect(folder, "case", ["0.zip"], ROOM)
    assert len(record.image_paths) == 3
    assert all(path.is_relative_to(folder / "unpacked") for path in record.image_paths)
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {
        "0.zip", "00000.nii", "00001.nii", "00002.nii",
    }  # fmt: skip
    assert not Path("/tmp/evil_sfumato.nii").exists()


def test_an_archive_of_very_many_files_or_of_none_is_refused(tmp_path: Path) -> None:
    many = zipped(*((f"{i}.nii", b"") for i in range(20_001)))
    assert "more than 20000 files" in refusal(tmp_path / "many", "0.zip", many)
    assert "holds no images" in refusal(tmp_path / "none", "0.zip", zipped(("a.txt", b"hello")))
    assert "no zip archive" in refusal(tmp_path / "no", "0.zip", b"PK\x03\x04 and no more")


def test_compressed_nifti_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(nifti_bytes() + b"\0" * 10_000_000)
    assert "unpacks to more than" in refusal(tmp_path / "in", "0.nii.gz", bomb)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_that_promises_terabytes_is_refused(tmp_path: Path, suffix: str) -> None:
    content = bytearray(nifti_bytes())
    struct.pack_into("<8h", content, 40, 3, 32000, 32000, 32000, 1, 1, 1, 1)
    packed = gzip.compress(bytes(content)) if suffix == ".nii.gz" else bytes(content)
    message = refusal(tmp_path / "in", f"0{suffix}", packed)
    assert "more than the 1000000 elements" in message


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (
            "0.nrrd",
            b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 30000 30000 30000\nencoding: raw\n\n",
        ),
        (
            "0.mha",
            b"ObjectType = Image\nNDims = 3\nDimSize = 30000 30000 30000\n"
            b"ElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
        ),
    ],
)
def test_itk_headers_that_promise_terabytes_are_refused(
    tmp_path: Path, name: str, header: bytes
) -> None:
    assert "more than the 1000000 elements" in refusal(tmp_path / "in", name, header + b"\0" * 99)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (
            "0.nrrd",
            b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 9 9\nencoding: raw\n"
            b"data file: /etc/passwd\n\n",
        ),
        (
            "0.nrrd",
            b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 9 9\nencoding: raw\n"
            b"datafile: /etc/passwd\n\n",
        ),
        (
            "0.mha",
            b"ObjectType = Image\nNDims = 2\nDimSize = 9 9\nElementType = MET_UCHAR\n"
            b"ElementDataFile = /etc/passwd\n",
        ),
        (
            "0.mha",
            b"ObjectType = Image\nNDims = 2\nDimSize = 9 9\nElementType = MET_UCHAR\n"
            b"ElementDataFile: /etc/passwd\n",
        ),
        (
            "0.mha",
            b"ObjectType = Image\nNDims = 2\nDimSize = 9 9\nElementType = MET_UCHAR\n"
            b"ElementDataFile = LIST\n/etc/passwd\n",
        ),
    ],
)
def test_headers_that_name_other_files_are_refused(
    tmp_path: Path, name: str, header: bytes
) -> None:
    assert "keeps its elements in another file" in refusal(tmp_path / "in", name, header)


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [1_001, 12_000, 60_000])
def test_pictures_that_promise_very_much_are_refused(tmp_path: Path, side: int) -> None:
    message = refusal(tmp_path / "in", "0.png", png_of(side, side))
    assert "more than the 1000000 elements" in message or "too large" in message


def test_a_picture_is_no_program_whatever_its_name_says(tmp_path: Path) -> None:
    # Pillow would hand this to Ghostscript.
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n"
    assert "damaged" in refusal(tmp_path / "in", "0.png", content)


def test_tiff_that_promises_very_much_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Picture.fromarray(np.zeros((1100, 1100), np.uint8)).save(stream, "TIFF", compression="tiff_lzw")
    message = refusal(tmp_path / "in", "0.tif", stream.getvalue())
    assert "more than the 1000000 elements" in message


def test_dicom_that_promises_very_much_is_refused(tmp_path: Path) -> None:
    def enlarge(_index: int, dataset: object) -> None:
        dataset.Rows = dataset.Columns = 60_000  # type: ignore[attr-defined]

    series = write_series(tmp_path / "a", np.zeros((4, 4, 1), np.uint16), change=enlarge)
    content = next(series.iterdir()).read_bytes()
    assert "more than the 1000000 elements" in refusal(tmp_path / "in", "0.dcm", content)


def test_deflated_dicom_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    def deflate(_index: int, dataset: object) -> None:
        syntax = DeflatedExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax  # type: ignore[attr-defined]

    series = write_series(tmp_path / "a", np.zeros((4, 4, 1), np.uint16), change=deflate)
    content = next(series.iterdir()).read_bytes()
    assert "deflated DICOM" in refusal(tmp_path / "in", "0.dcm", content)


# ---- forms ----


def form(*parts: tuple[str, bytes], boundary: str = "x") -> bytes:
    content = b""
    for head, body in parts:
        content += f"--{boundary}\r\n{head}\r\n\r\n".encode() + body + b"\r\n"
    return content + f"--{boundary}--\r\n".encode()


IMAGE = 'Content-Disposition: form-data; name="image"; filename="a.nii"'
MODEL = ('Content-Disposition: form-data; name="model"', b"body")
AS_FORM = {"Content-Type": "multipart/form-data; boundary=x", "Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {}, 415),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"", {"Content-Type": "multipart/form-data"}, 415),
        (b"", AS_FORM, 400),
        (b"--x", AS_FORM, 400),
        (b"no boundary at all" * 100, AS_FORM, 400),
        (form(MODEL, (IMAGE, b"abc"))[:-9], AS_FORM, 400),
        (form(("Content-Disposition: form-data; name=x", b"\xff")), AS_FORM, 400),
        (form(("X" * 9000 + ": y", b"")), AS_FORM, 400),
        (form(*[(f"A{i}: b\r\n" * 30 + IMAGE, b"") for i in range(3)]), AS_FORM, 400),
        (form(MODEL), AS_FORM, 422),
        (form((IMAGE.replace("image", "other"), b"")), AS_FORM, 422),
        (form(MODEL, (IMAGE.replace("a.nii", "a.exe"), b"MZ")), AS_FORM, 422),
        (form(MODEL, (IMAGE.replace("a.nii", "a.mhd"), b"")), AS_FORM, 422),
        (form(('Content-Disposition: form-data; name="model"', b"x" * 70_000)), AS_FORM, 413),
        (form(MODEL, (IMAGE, b"\0" * (LARGEST + 1))), AS_FORM, 413),
    ],
)  # fmt: skip
def test_forms_that_are_none_or_too_large_are_refused(
    strict: Server, body: bytes, headers: dict[str, str], code: int
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    status, _, answer = ask(strict, "POST", "/v1/jobs", body, headers)
    assert status == code, answer
    assert set(json.loads(answer)) == {"detail"}
    assert b"Traceback" not in answer
    assert list((strict.data / "uploads").iterdir()) == []


def test_a_body_without_a_declared_length_is_cut_off_too(strict: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", strict.port, timeout=300)
    pieces = iter([form(MODEL, (IMAGE, b"\0" * LARGEST))] * 2)
    connection.request("POST", "/v1/jobs", pieces, AS_FORM, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_client_that_says_nothing_is_sent_away(strict: Server) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=300) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n")
        assert connection.recv(100) == b""


def test_a_client_that_stops_in_the_middle_is_sent_away(strict: Server) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=300) as connection:
        head = "\r\n".join(f"{name}: {value}" for name, value in AS_FORM.items())
        connection.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{head}\r\nContent-Length: 500\r\n\r\n"
            "--x\r\n".encode()
        )
        assert b" 408 " in connection.recv(1000)
    wait_until(lambda: list((strict.data / "uploads").iterdir()) == [], strict)


def test_uploads_have_an_end() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"."

    async def take() -> None:
        limits = UploadLimits(n_bytes=10**9, idle_seconds=10.0, total_seconds=0.2)
        async for _ in limited(drip(), limits):
            pass

    with pytest.raises(HTTPException) as caught:
        asyncio.run(take())
    assert caught.value.status_code == 408


def test_no_form_however_it_is_cut_leaves_more_than_its_files(tmp_path: Path) -> None:
    content = form(MODEL, (IMAGE, bytes(range(256))), (IMAGE, b"--x\r\n--y"))
    limits = UploadLimits(n_bytes=10**6, idle_seconds=10.0, total_seconds=10.0)
    for size in (1, 2, 7, 1000):
        folder = tmp_path / str(size)
        folder.mkdir()

        async def pieces(size: int = size) -> AsyncIterator[bytes]:
            for start in range(0, len(content), size):
                yield content[start : start + size]

        kind = "multipart/form-data; boundary=x"
        upload = asyncio.run(receive_form(kind, pieces(), folder, limits))
        assert upload.texts == {"model": "body"}
        assert [path.read_bytes() for path in upload.files] == [bytes(range(256)), b"--x\r\n--y"]


# ---- who may ask ----


def test_nothing_but_health_and_the_page_is_told_without_the_token(strict: Server) -> None:
    for place in ("/v1/models", "/v1/jobs", "/metrics", "/v1/openapi.json", "/nothing"):
        for shown in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {TOKEN}"}):
            status, headers, answer = ask(strict, "GET", place, headers=shown)
            assert status == 401, place
            assert headers["www-authenticate"] == "Bearer"
            assert set(json.loads(answer)) == {"detail"}
    assert ask(strict, "GET", "/healthz")[0] == 200
    assert strict.client(TOKEN).models()[0]["name"] == "body"


def test_a_token_is_compared_whole() -> None:
    assert is_token(TOKEN, f"Bearer {TOKEN}")
    assert is_token(TOKEN, f"bearer {TOKEN}")
    wrong = ("", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", TOKEN, "Bearer é")
    assert not any(is_token(TOKEN, shown) for shown in wrong)


def test_short_tokens_and_open_addresses_without_one_are_refused(tmp_path: Path) -> None:
    for text in ("", "short", "with spaces in between it"):
        (tmp_path / "token").write_text(text)
        with pytest.raises(ConfigError, match="16 or more"):
            read_token(tmp_path / "token")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", ""):
        with pytest.raises(ConfigError, match="--token-file"):
            check_address(host, None)
        check_address(host, TOKEN)
    for host in ("127.0.0.1", "::1", "localhost"):
        check_address(host, None)


def test_other_names_and_pages_of_other_servers_are_refused(server: Server) -> None:
    assert ask(server, "GET", "/healthz", headers={"Host": "evil.example"})[0] == 421
    assert ask(server, "GET", "/healthz", headers={"Host": f"localhost:{server.port}"})[0] == 200
    evil = {"Origin": "http://evil.example"}
    assert ask(server, "POST", "/v1/jobs", b"", evil)[0] == 403
    own = {"Origin": server.url}
    assert ask(server, "GET", "/v1/models", headers=own)[0] == 200
    _, headers, _ = ask(server, "OPTIONS", "/v1/jobs", headers=own)
    assert not any(name.lower().startswith("access-control") for name in headers)


def test_every_answer_has_the_headers_that_browsers_obey(server: Server) -> None:
    for place in ("/healthz", "/v1/models", "/v1/jobs/nothing", "/nowhere"):
        _, headers, _ = ask(server, "GET", place)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "server" not in {name.lower() for name in headers}


@pytest.mark.parametrize(
    "name", ["..%2F..%2Finput%2F00000.nii.gz", "%2Fetc%2Fpasswd", "....//x", "image.nii.gz%00"]
)
def test_names_of_results_lead_nowhere(
    server: Server, client: ServiceClient, scan: Path, name: str
) -> None:
    job = finish(client, client.send("body", [scan]))
    for kind in ("results", "output"):
        assert ask(server, "GET", f"/v1/jobs/{job['id']}/{kind}/{name}")[0] == 404


# ---- load, and what is told ----


def test_more_than_the_queue_holds_is_refused_for_a_while(
    strict: Server, scan: Path, tmp_path: Path
) -> None:
    client = strict.client(TOKEN)
    small = tmp_path / "small.nii.gz"
    small.write_bytes(gzip.compress(nifti_bytes((16, 16, 16))))
    sent, refused = [], []
    for _ in range(30):
        try:
            sent.append(client.send("body", [small]))
        except ServerError as error:
            refused.append(str(error))
    assert refused
    assert all("too many jobs wait" in text for text in refused)
    body, headers = form(MODEL, (IMAGE, b"")), AS_FORM
    for _ in range(30):
        status, told, _ = ask(strict, "POST", "/v1/jobs", body, headers)
        if status == 429:
            assert int(told["retry-after"]) > 0
            break
    assert all(finish(client, job)["state"] == "done" for job in sent)


def test_nothing_of_the_patient_is_told_or_logged(
    server: Server, client: ServiceClient, tmp_path: Path
) -> None:
    values = np.full((20, 24, 18), 7, np.uint16)
    series = write_series(tmp_path / PATIENT["PatientID"], values)
    damaged = sorted(series.iterdir())
    damaged[0].write_bytes(damaged[0].read_bytes()[:-200])
    archive = zipped(*((f"{PATIENT['PatientName']}/{p.name}", p.read_bytes()) for p in damaged))
    (tmp_path / "study.zip").write_bytes(archive)
    jobs = [client.send("body", damaged), client.send("body", [tmp_path / "study.zip"])]
    ended = [finish(client, job) for job in jobs]
    assert {job["state"] for job in ended} == {"failed"}
    told = json.dumps(ended) + server.log.read_text()
    for value in PATIENT.values():
        for part in value.split("^"):
            assert part not in told
    assert str(server.data) not in told
    assert "Traceback" not in told


def test_metrics_tell_what_was_done(server: Server, client: ServiceClient, scan: Path) -> None:
    finish(client, client.send("body", [scan]))
    _, headers, text = ask(server, "GET", "/metrics")
    assert headers["content-type"].startswith("text/plain")
    assert b'sfumato_jobs{state="done"}' in text
    assert b'sfumato_requests_total{method="POST",status="202"}' in text
    assert b"sfumato_ready 1.0" in text
    assert ask(server, "GET", "/readyz")[0] == 200
