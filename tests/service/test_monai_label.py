"""The requests that MONAI Label's module in 3D Slicer sends, byte for byte, and their answers.

They are made as that client makes them: http.client with its fixed boundary and header names in
small letters, and files without escapes; sessions are opened with a form as `requests` makes it.
"""

import email
import http.client
import json
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from tests.pipeline.conftest import run_here
from tests.service.conftest import TOKEN, Server

LIMIT = "----------lImIt_of_THE_fIle_eW_$"


def multipart(fields: dict[str, str], files: dict[str, Path]) -> tuple[str, bytes]:
    lines: list[bytes] = []
    for key, value in fields.items():
        lines += [
            f"--{LIMIT}".encode(),
            f'Content-Disposition: form-data; name="{key}"'.encode(),
            b"",
            value.encode(),
        ]
    for key, path in files.items():
        lines += [
            f"--{LIMIT}".encode(),
            # The client sends the whole local path as the name.
            f'Content-Disposition: form-data; name="{key}"; filename="{path}"'.encode(),
            b"Content-Type: application/octet-stream",
            b"",
            path.read_bytes(),
        ]
    lines += [f"--{LIMIT}--".encode(), b"", b""]
    return f"multipart/form-data; boundary={LIMIT}", b"\r\n".join(lines)


def call(
    server: Server,
    method: str,
    selector: str,
    body: bytes | str | None = None,
    kind: str | None = None,
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    headers = {} if kind is None else {"content-type": kind, "content-length": str(len(body or ""))}
    try:
        connection.request(method, selector, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheader("content-type", ""), response.read()
    finally:
        connection.close()


def parts_of(kind: str, content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Take an answer apart into fields and files, as the client does."""
    message: Message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + content)
    form: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for part in message.get_payload():
        assert isinstance(part, Message)
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        name = part.get_filename()
        if name:
            files[name] = payload
        else:
            form[str(part.get_param("name", header="content-disposition"))] = payload.decode()
    return form, files


def test_the_module_connects(server: Server) -> None:
    status, kind, content = call(server, "GET", "/info/")
    assert (status, kind) == (200, "application/json")
    told = json.loads(content)
    assert set(told) >= {
        "name", "description", "version", "labels", "models", "trainers", "strategies", "scoring",
        "train_stats", "datastore",
    }  # fmt: skip
    body = told["models"]["body"]
    assert (body["type"], body["dimension"]) == ("segmentation", 3)
    assert body["labels"] == {"Liver": 2, "core": 7}
    assert {"description", "config"} <= set(body)
    assert call(server, "GET", "/train/?check_if_running=true")[0] == 404
    assert json.loads(call(server, "GET", "/auth/")[2])["enabled"] is False
    assert json.loads(call(server, "GET", "/datastore/?output=all")[2]) == {"objects": {}}


@pytest.fixture(scope="module")
def expected(models: Path, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("expected") / "out"
    run_here("segment", models / "body", scan, "--out", out, "--device=cpu", "--engine=torch")
    return (out / "scan.nii.gz").read_bytes()


def infer(server: Server, selector: str, files: dict[str, Path]) -> tuple[Any, dict[str, bytes]]:
    params = json.dumps({"result_extension": ".nii.gz", "client_id": "user-xyz"})
    kind, body = multipart({"params": params}, files)
    status, answered, content = call(server, "POST", selector, body, kind)
    assert status == 200, content
    assert answered.startswith("multipart/form-data")
    form, found = parts_of(answered, content)
    return json.loads(form["params"]), found


def test_an_image_is_uploaded_and_segmented(server: Server, scan: Path, expected: bytes) -> None:
    kind, body = multipart({"params": '{"client_id": "user-xyz"}'}, {"file": scan})
    selector = f"/datastore/?image={quote_plus('vtkMRML Node 1')}"
    status, _, content = call(server, "PUT", selector, body, kind)
    assert (status, json.loads(content)) == (200, {"image": "vtkMRML Node 1"})
    params, files = infer(server, f"/infer/body?image={quote_plus('vtkMRML Node 1')}", {})
    assert params["label_names"] == {"Liver": 2, "core": 7}
    assert list(files.values()) == [expected]


def test_a_session_is_opened_used_and_closed(server: Server, scan: Path, expected: bytes) -> None:
    # As the library requests writes a form: another boundary, fields first, then the file.
    boundary = "2f1a8a5d9e5c4c0e8d3b"
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="client_id"\r\n\r\nuser-xyz\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{scan.name}"'
            "\r\n\r\n"
        ).encode()
        + scan.read_bytes()
        + f"\r\n--{boundary}--\r\n".encode()
    )
    kind = f"multipart/form-data; boundary={boundary}"
    status, _, content = call(server, "PUT", "/session/", body, kind)
    assert status == 200
    session = json.loads(content)["session_id"]
    assert call(server, "GET", f"/session/{session}")[0] == 200
    _, files = infer(server, f"/infer/body?image=x&session_id={session}", {})
    assert list(files.values()) == [expected]
    assert call(server, "DELETE", f"/session/{session}")[0] == 200
    assert call(server, "GET", f"/session/{session}")[0] == 404


def test_an_image_may_come_with_the_request(server: Server, scan: Path, expected: bytes) -> None:
    _, files = infer(server, "/infer/body?image=x", {"file": scan})
    assert list(files.values()) == [expected]
    params, files = infer(server, "/infer/body?image=x&output=json", {"file": scan})
    assert files == {}
    assert params["latencies"]["total"] >= 0


def test_what_is_not_done_here_is_refused_in_words(server: Server) -> None:
    kind = "application/json"
    for method, place in (
        ("POST", "/activelearning/random"),
        ("POST", "/train/body"),
        ("DELETE", "/train/"),
        ("PUT", "/datastore/label?image=x"),
        ("GET", "/session/..%2F..%2Fjobs"),
    ):
        status, _, content = call(server, method, place, "{}", kind)
        assert status == 404
        assert json.loads(content)["detail"]
    kind, body = multipart({"params": "{}"}, {})
    status, _, content = call(server, "POST", "/infer/body?image=never+sent", body, kind)
    assert status == 404
    assert b"send it again" in content
    assert call(server, "POST", "/infer/nothing?image=x", body, kind)[0] == 422


def test_the_token_is_the_password(strict: Server) -> None:
    assert call(strict, "GET", "/info/")[0] == 401
    assert json.loads(call(strict, "GET", "/auth/")[2])["enabled"] is True
    kind = "application/x-www-form-urlencoded"
    wrong = urlencode({"username": "anna", "password": "guess", "grant_type": "password"})
    assert call(strict, "POST", "/auth/token", wrong, kind)[0] == 401
    right = urlencode({"username": "anna", "password": TOKEN, "grant_type": "password"})
    status, _, content = call(strict, "POST", "/auth/token", right, kind)
    assert status == 200
    assert json.loads(content)["access_token"] == TOKEN
