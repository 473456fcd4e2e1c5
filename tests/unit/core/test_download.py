"""Downloads against a server that cuts, limits, redirects, refuses and lies."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from headstart.core.download import fetch, fetch_bytes
from headstart.core.errors import DataError, HubError, ResourceError
from headstart.core.http import Wanted, ask
from headstart.core.unpack import unpack
from tests.standins._http import Address, Answer, Fault, Request, as_json, ranged, serve

DATA = bytes(range(256)) * 8000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server():
    tag = hashlib.md5(DATA).hexdigest()

    def answer(request: Request) -> Answer:
        if request.path == "/file":
            return ranged(request, DATA, ETag=f'"{tag}"')
        if request.path == "/moved":
            return Answer(302, headers={"Location": f"http://localhost:{request.headers['host'].split(':')[1]}/file"})
        if request.path == "/told":
            return as_json({"key": request.token})
        if request.path == "/huge":
            return Answer(200, b"", {"Content-Length": str(1 << 60)}, cut=0)
        return Answer(404)

    with serve(answer) as address:
        yield address


def wanted(server: Address, path: str = "/file", **more) -> Wanted:
    return Wanted(f"{server}{path}", "the weights", "ngc", **more)


def test_a_file_is_fetched_once(server, tmp_path):
    at = fetch(wanted(server, sha256=DIGEST, size=len(DATA)), tmp_path / "deep" / "w.bin")
    assert at.read_bytes() == DATA
    fetch(wanted(server, sha256=DIGEST, size=len(DATA)), at)
    assert len(server.log) == 1
    assert sorted(each.name for each in at.parent.iterdir()) == [".w.bin.lock", "w.bin"]


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults.append(Fault("/file", cut=1_500_000))
    assert fetch(wanted(server, sha256=DIGEST), tmp_path / "w").read_bytes() == DATA
    first, second = server.log
    assert "range" not in first.headers
    assert second.headers["range"].startswith("bytes=1")
    assert "if-range" in second.headers


def test_what_another_process_left_is_used_where_the_file_is_the_same(server, tmp_path):
    server.faults.append(Fault("/file", cut=1_500_000))
    server.faults.append(Fault("/file", status=403))
    with pytest.raises(HubError):
        fetch(wanted(server, sha256=DIGEST), tmp_path / "w")
    kept = (tmp_path / ".w.part").stat().st_size
    fetch(wanted(server, sha256=DIGEST), tmp_path / "w")
    assert server.log[-1].headers["range"] == f"bytes={kept}-"
    # Of another version, it is not used.
    (tmp_path / "w").unlink()
    (tmp_path / ".w.part").write_bytes(b"of another version")
    (tmp_path / ".w.etag").write_text('"older"')
    assert fetch(wanted(server), tmp_path / "w").read_bytes() == DATA


def test_a_damaged_part_is_fetched_again(server, tmp_path):
    server.faults.append(Fault("/file", cut=1_500_000))
    server.faults.append(Fault("/file", status=403))
    with pytest.raises(HubError):
        fetch(wanted(server, sha256=DIGEST), tmp_path / "w")
    part = tmp_path / ".w.part"
    part.write_bytes(b"x" * part.stat().st_size)
    assert fetch(wanted(server, sha256=DIGEST), tmp_path / "w").read_bytes() == DATA


def test_a_wrong_checksum_or_size_leaves_nothing(server, tmp_path):
    with pytest.raises(HubError, match="arrived damaged: its SHA-256 is"):
        fetch(wanted(server, sha256="0" * 64), tmp_path / "w")
    with pytest.raises(HubError, match="not 5 as announced"):
        fetch(wanted(server, size=5), tmp_path / "w")
    assert not (tmp_path / "w").exists()
    assert not (tmp_path / ".w.part").exists()


def test_what_passes_is_tried_again_and_what_does_not_is_told(server, tmp_path, monkeypatch):
    server.faults += [Fault("/file", status=503), Fault("/file", status=429, headers={"Retry-After": "0"})]
    assert fetch(wanted(server), tmp_path / "w").read_bytes() == DATA
    for status, words in ((401, "without a key"), (403, "without a key"), (404, "There is no the weights")):
        server.faults.append(Fault("/file", status=status))
        with pytest.raises(HubError, match=words) as told:
            fetch(wanted(server, key="SOME_KEY"), tmp_path / str(status))
        assert str(server) not in str(told.value)
    monkeypatch.setenv("SOME_KEY", "secret-value")
    server.faults.append(Fault("/file", status=403))
    with pytest.raises(HubError, match="with this key") as told:
        fetch(wanted(server, key="SOME_KEY"), tmp_path / "x")
    assert "SOME_KEY" in told.value.hint
    assert "secret-value" not in str(told.value)
    server.faults.append(Fault("/file", status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(HubError, match="wait for 86400 s"):
        fetch(wanted(server), tmp_path / "x")


def test_a_server_that_never_gets_through_is_given_up(server, tmp_path):
    server.faults.append(Fault("/file", cut=0, times=99))
    with pytest.raises(HubError, match="broke 5 times"):
        fetch(wanted(server), tmp_path / "w")
    with pytest.raises(HubError, match="cannot be reached") as told:
        fetch(Wanted("http://user:secret@127.0.0.1:1/x", "it", "ngc"), tmp_path / "w")
    assert "secret" not in str(told.value)


def test_the_key_stays_with_its_host(server, tmp_path):
    fetch(wanted(server, "/moved", headers={"Authorization": "Bearer k"}), tmp_path / "w")
    here, there = server.log
    assert here.token == "k"
    assert "authorization" not in there.headers
    assert ask(wanted(server, "/told", headers={"Authorization": "Bearer k"})) == {"key": "k"}
    with pytest.raises(HubError, match="is not JSON"):
        ask(wanted(server))


def test_a_file_that_a_table_names(server, monkeypatch):
    server.faults.append(Fault("/file", cut=99))
    assert fetch_bytes(f"{server}/file?signature=secret") == DATA
    with pytest.raises(DataError, match=r"There is no 'http://127\.0\.0\.1/none'") as told:
        fetch_bytes(f"{server}/none?signature=secret".replace("http://", "http://me:secret@"))
    assert "secret" not in str(told.value)
    with pytest.raises(DataError, match="larger than 1 MB"):
        fetch_bytes(f"{server}/file", most=1 << 20)
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(DataError, match="network is switched off"):
        fetch_bytes(f"{server}/file")


def test_a_small_disk_is_told_before(server, tmp_path):
    with pytest.raises(ResourceError, match="MB left"):
        fetch(wanted(server, "/huge"), tmp_path / "w")
    assert not (tmp_path / ".w.part").exists()


def test_two_processes_fetch_it_once(server, tmp_path):
    code = (
        "import sys; from pathlib import Path; from headstart.core.download import fetch;"
        "from headstart.core.http import Wanted;"
        "fetch(Wanted(sys.argv[1], 'it', 'ngc', sha256=sys.argv[3]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, f"{server}/file", str(tmp_path / "w"), DIGEST]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert (tmp_path / "w").read_bytes() == DATA
    assert len(server.log) == 1


def test_offline_asks_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(HubError, match="network is switched off"):
        fetch(wanted(server), tmp_path / "w")
    with pytest.raises(HubError, match="network is switched off"):
        ask(wanted(server, "/told"))
    assert server.log == []


def _zip(path: Path, name: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, b"hello")
    return path


def _tar(path: Path, **about) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(about.pop("name", "x"))
        member.size = 5
        for key, value in about.items():
            setattr(member, key, value)
        archive.addfile(member, BytesIO(b"hello"))
    return path


def test_archives_are_unpacked(tmp_path):
    for number, archive in enumerate((_zip(tmp_path / "a.zip", "m/x"), _tar(tmp_path / "a.tgz", name="m/x"))):
        assert (unpack(archive, tmp_path / str(number)) / "m" / "x").read_bytes() == b"hello"


def test_hostile_archives_leave_nothing(tmp_path):
    hostile = [
        _zip(tmp_path / "1.zip", "../x"),
        _zip(tmp_path / "2.zip", "/x"),
        _zip(tmp_path / "3.zip", "a\\..\\..\\x"),
        _zip(tmp_path / "4.zip", "x", 0o120777),
        _tar(tmp_path / "5.tgz", name="../x"),
        _tar(tmp_path / "6.tgz", type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
        _tar(tmp_path / "7.tgz", type=tarfile.CHRTYPE, size=0),
    ]
    for archive in hostile:
        with pytest.raises(HubError, match="is not unpacked"):
            unpack(archive, tmp_path / "out")
    with pytest.raises(HubError, match="holds more than"):
        unpack(_zip(tmp_path / "8.zip", "x"), tmp_path / "out", largest=4)
    (tmp_path / "9.zip").write_bytes(b"no archive")
    with pytest.raises(HubError, match="cannot be unpacked"):
        unpack(tmp_path / "9.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "x").exists()
