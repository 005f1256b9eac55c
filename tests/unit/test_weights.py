"""A model's file is fetched whole and checked, or nothing is kept."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from subprocess import run

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from worker import cli
from worker.clock import Clock
from worker.errors import UsageError
from worker.weights import fetch

MODEL = b"weights" * 400_000
SHA256 = hashlib.sha256(MODEL).hexdigest()
HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]


class Publisher(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/absent.onnx":
            self.send_error(404)
        elif path.startswith("/to-"):
            self.send_response(302)
            port = self.server.server_address[1]
            self.send_header("Location", f"{path[4:].partition('/')[0]}://{HOST}:{port}/model.onnx")
            self.end_headers()
        else:
            self.send_response(200)
            size = 10**11 if path == "/vast.onnx" else len(MODEL)
            if path != "/unsized.onnx":
                self.send_header("Content-Length", str(size))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(MODEL[: len(MODEL) // 2] if path == "/cut.onnx" else MODEL)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose certificate is trusted here, and its address."""
    folder = tmp_path_factory.mktemp("tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))
    with ThreadingHTTPServer((HOST, 0), Publisher) as server, pytest.MonkeyPatch.context() as patch:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        patch.setenv("SSL_CERT_FILE", str(folder / "tls.pem"))
        patch.setenv("no_proxy", HOST)
        yield f"https://{HOST}:{server.server_port}"
        server.shutdown()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "tls.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_what_is_as_it_was_said_is_kept(address: str, tmp_path: Path) -> None:
    file = fetch(f"{address}/to-https/a/%E6%A8%A1%E5%9E%8B%201.onnx?download=true", SHA256, tmp_path / "new")
    assert file == tmp_path / "new" / "模型_1.onnx"
    assert file.read_bytes() == MODEL
    assert [*file.parent.iterdir()] == [file]
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(MODEL)
    assert fetch(plain.as_uri(), f"sha256:{SHA256.upper()}", tmp_path / "copy").read_bytes() == MODEL


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(MODEL)
    gone = "https://127.0.0.1:1/model.onnx"
    assert fetch(gone, SHA256, tmp_path) == tmp_path / "model.onnx"
    with pytest.raises(UsageError, match="another file"):
        fetch(gone, "0" * 64, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == MODEL


@pytest.mark.parametrize(
    ("path", "sha256", "says"),
    [
        ("/model.onnx", "0" * 64, f"has another sha256, {SHA256}: nothing is kept"),
        ("/cut.onnx", SHA256, f"was cut off, {len(MODEL) // 2:,} of {len(MODEL):,} bytes came"),
        ("/vast.onnx", SHA256, "is larger than 20 GB: nothing is kept"),
        ("/absent.onnx", SHA256, "Not Found"),
        ("/to-http/model.onnx", SHA256, "which is not https"),
        ("/to-file/model.onnx", SHA256, "is not allowed"),
        ("/folder/", SHA256, "names no file"),
        ("/model.onnx", "f00d", "is no sha256"),
    ],
)
def test_all_else_is_one_line_and_leaves_nothing(
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    path: str,
    sha256: str,
    says: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["weights", address + path, sha256, "--to", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert says in line
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "url", ["http://localhost/model.onnx", "ftp://localhost/model.onnx", "model.onnx", ""]
)
def test_nothing_is_fetched_in_the_open(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="name one that begins with https://"):
        fetch(url, SHA256, tmp_path)


def test_what_does_not_say_its_size_is_not_read_for_ever(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is larger than 0\.001 GB"):
        fetch(f"{address}/unsized.onnx", SHA256, tmp_path, most_gb=0.001)
    assert fetch(f"{address}/unsized.onnx", SHA256, tmp_path).read_bytes() == MODEL


def test_a_drip_ends_it(address: str, tmp_path: Path) -> None:
    class Slow(Clock):
        def __init__(self) -> None:
            self.time = 0.0

        def now(self) -> float:
            self.time += 59
            return self.time

    with pytest.raises(UsageError, match=r"came too slowly, .* bytes in 118 s: nothing is kept"):
        fetch(f"{address}/model.onnx", SHA256, tmp_path, Slow())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://[::1", "is no address: Invalid IPv6 URL"),
        ("https://host:99999/m.onnx", "is no address: Port out of range"),
        ("https://a..b/m.onnx", "was not fetched"),
        ("https://me:TOPSECRET@host/m.onnx", "https://***@host/m.onnx: a name and password in an address"),
    ],
)
def test_an_address_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["weights", url, SHA256, "--to", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert says in line
    assert "TOPSECRET" not in line


def test_an_address_reaches_the_command_as_it_was_typed(tmp_path: Path) -> None:
    """Quotes and dollars are neither the shell's nor make's."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "core.stamp").touch()
    command = tmp_path / ".venv" / "bin" / "worker"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    command.chmod(0o755)
    for name in ("Makefile", "env"):
        (tmp_path / name).symlink_to(ROOT / name)
    url = "https://h/a'b\"c$d$(shell touch made)`touch made`;#e?f=g&h=1"
    said = run(
        ["make", "--no-print-directory", "-o", ".venv/core.stamp", "weights", f"URL={url}", "SHA256=f'0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == ["weights", "--", url, "f'0"]
    assert not (tmp_path / "made").exists()


def test_a_certificate_that_nobody_trusts_ends_it(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UsageError, match="certificate"):
        fetch(f"{address}/model.onnx", SHA256, tmp_path)


def test_it_says_where_it_is_and_what_uses_it(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["weights", f"{address}/model.onnx", SHA256, "--to", str(tmp_path)])
    said = capsys.readouterr()
    assert not ended.value.code
    assert said.out == f"{tmp_path}/model.onnx\n"
    assert f"--model {tmp_path}/model.onnx" in said.err
