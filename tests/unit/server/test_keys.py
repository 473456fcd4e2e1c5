"""The file of API keys, the command that writes it, and what a server makes of it."""

from __future__ import annotations

import json
import os
import stat
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.cli.main import main
from headstart.core.errors import UsageError
from headstart.server.protection.buckets import Bucket, Buckets
from headstart.server.protection.keyring import Keyring, address, needed, presented
from headstart.server.protection.keys import KEY, Key, read_keys, write_keys
from headstart.stages.keys import add_key, list_keys, revoke_key, rotate_key, until


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.json"


def test_a_key_is_kept_as_a_hash_only(file):
    made = add_key(file, "shop")
    assert KEY.fullmatch(made["key"])
    assert made["key"].rpartition("_")[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "key" not in list_keys(file)[0]
    assert "hash" not in list_keys(file)[0]
    assert Keyring(file).find(made["key"]).name == "shop"


def test_keys_differ_and_do_not_open_each_others_doors(file):
    first, second = add_key(file, "one")["key"], add_key(file, "two")["key"]
    ring = Keyring(file)
    assert [ring.find(each).name for each in (first, second)] == ["one", "two"]
    mixed = first[:13] + second[13:]
    for wrong in (mixed, first[:-1], first + "x", first.upper(), "", "hs_", " " + first, first + "\n"):
        assert ring.find(wrong) is None


def test_an_expired_key_is_refused(file):
    key, text = Key.make("old", expires=time.time() - 1)
    other, lasting = Key.make("new", expires=time.time() + 60)
    write_keys(file, [key, other])
    ring = Keyring(file)
    assert ring.find(text) is None
    assert ring.find(lasting).name == "new"


def test_a_running_server_sees_changes(file):
    first = add_key(file, "shop")["key"]
    ring = Keyring(file, every=0)
    second = rotate_key(file, "shop", grace="1h")["key"]
    assert ring.find(first).name == ring.find(second).name == "shop"
    rotate_key(file, "shop", grace="0")
    assert ring.find(first) is None
    assert ring.find(second) is None
    third = add_key(file, "other")["key"]
    assert ring.find(third).name == "other"
    assert revoke_key(file, "other") == 1
    assert ring.find(third) is None


def test_a_damaged_file_leaves_the_keys_as_they_were(file, caplog):
    text = add_key(file, "shop")["key"]
    ring = Keyring(file, every=0)
    file.write_text("{")
    assert ring.find(text).name == "shop"
    assert "stay as they were" in caplog.text
    file.unlink()
    assert ring.find(text).name == "shop"
    add_key(file, "other")
    assert ring.find(text) is None


def test_rotating_keeps_what_the_key_allows(file):
    add_key(file, "shop", scopes=("predict", "metrics"), models=("a",), requests_per_second=5, expires="90d")
    made = rotate_key(file, "shop")
    old, new = list_keys(file)
    assert {name: new[name] for name in ("scopes", "models", "requests_per_second", "expires")} == {
        "scopes": ["predict", "metrics"],
        "models": ["a"],
        "requests_per_second": 5.0,
        "expires": made["expires"],
    }
    assert old["expires"] < new["expires"]


def test_rotating_twice_does_not_lengthen_the_first_ones_life(file):
    add_key(file, "shop")
    rotate_key(file, "shop", grace="1h")
    rotate_key(file, "shop", grace="10h")
    first, second, third = list_keys(file)
    assert first["expires"] < second["expires"]
    assert third["expires"] == ""


def test_changes_at_the_same_time_are_all_kept(file):
    add_key(file, "zero")
    threads = [threading.Thread(target=add_key, args=(file, f"key{each}")) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(read_keys(file)) == 9


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_file_that_is_open_to_others_is_refused(file, mode):
    add_key(file, "shop")
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"chmod 600 {file}"):
        Keyring(file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 9, "keys": []}',
        '{"format": 1, "keys": {}, "x": 1}',
        '{"format": 1, "keys": [1]}',
        '{"format": 1, "keys": [{"name": "a", "id": "b", "hash": "c"}]}',
        '{"format": 1, "keys": [{"name": "a", "id": "b", "scopes": "predict"}]}',
    ],
)
def test_what_is_no_file_of_keys_is_refused(file, text):
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(UsageError, match=str(file)):
        read_keys(file)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "a b"}, "cannot be a key's name"),
        ({"scopes": ("predct",)}, "Did you mean 'predict'"),
        ({"scopes": ()}, "allows nothing"),
        ({"rows_per_second": -1.0}, "rows_per_second is -1"),
        ({"expires": "soon"}, "'soon' is no time"),
        ({"expires": "2020-01-01"}, "has passed"),
    ],
)
def test_what_cannot_be_a_key_is_told(file, options, told):
    with pytest.raises(UsageError, match=told):
        add_key(file, **{"name": "shop", **options})
    assert not file.exists()


def test_a_name_is_given_once(file):
    add_key(file, "shop")
    with pytest.raises(UsageError, match=f"headstart keys rotate {file} shop"):
        add_key(file, "shop")
    with pytest.raises(UsageError, match="Did you mean 'shop'"):
        revoke_key(file, "shp")


def test_spans_and_dates():
    assert abs(until("2h") - time.time() - 7200) < 5
    assert until("") == 0
    assert until("2100-01-01T12:00:00+02:00") == until("2100-01-01T10:00:00")


def test_the_command(file, capsys):
    assert (
        main(["keys", "add", str(file), "shop", "--scope", "predict", "--scope", "feedback", "--expires", "90d"]) == 0
    )
    shown = capsys.readouterr()
    assert KEY.fullmatch(shown.out.strip())
    assert "shown once" in shown.err
    assert main(["keys", "list", str(file)]) == 0
    listed = capsys.readouterr().out
    assert "shop" in listed
    assert "predict,feedback" in listed
    assert main(["keys", "rotate", str(file), "shop", "--json"]) == 0
    assert KEY.fullmatch(json.loads(capsys.readouterr().out)["key"])
    assert main(["keys", "revoke", str(file), "shop"]) == 0
    assert "2 revoked" in capsys.readouterr().out
    assert main(["keys", "list", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["keys", "list", str(file.with_name("none.json"))]) == 2
    assert "headstart keys add" in capsys.readouterr().err


SCHEMES = st.sampled_from([b"Bearer ", b"bearer\t", b"Basic ", b"Bearer"])
HEADER = st.tuples(
    st.sampled_from([b"authorization", b"x-api-key", b"accept"]),
    st.binary(max_size=300) | st.builds(bytes.__add__, SCHEMES, st.binary(max_size=80)),
)


@settings(deadline=None)
@given(headers=st.lists(HEADER, max_size=4))
def test_whatever_headers_come_there_is_a_key_or_none(headers, ring):
    text = presented(headers)
    assert isinstance(text, str)
    assert ring[0].find(text) is None


@settings(deadline=None)
@given(before=st.sampled_from([b"", b" ", b"\t"]), scheme=st.sampled_from([b"Bearer", b"bearer", b"BEARER"]))
def test_a_good_key_is_found_however_its_scheme_is_written(before, scheme, ring):
    held, text = ring
    assert held.find(presented([(b"authorization", before + scheme + b" " + text.encode() + before)])).name == "shop"
    assert held.find(presented([(b"x-api-key", text.encode()), (b"authorization", b"Basic abc")])).name == "shop"


def test_two_different_keys_are_none(ring):
    assert presented([(b"x-api-key", ring[1].encode()), (b"authorization", b"Bearer other")]) == ""


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    text = add_key(file, "shop")["key"]
    return Keyring(file), text


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/health/live", ""),
        ("GET", "/v2/health/ready", ""),
        ("POST", "/health/live", "predict"),
        ("GET", "/health/live/", "predict"),
        ("GET", "/metrics", "metrics"),
        ("POST", "/feedback", "feedback"),
        ("POST", "/predict", "predict"),
        ("POST", "/v2/repository/index", "predict"),
        ("POST", "/v2/repository/models/x/load", "admin"),
        ("GET", "/", "predict"),
    ],
)
def test_scopes_of_paths(method, path, scope):
    assert needed(method, path) == scope


@settings(deadline=None)
@given(
    rate=st.floats(0.1, 100), burst=st.floats(1, 100), asked=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 300)))
)
def test_no_more_comes_out_of_a_bucket_than_goes_in(rate, burst, asked):
    bucket, now, taken, largest = Bucket(rate, burst), 0.0, 0, 0
    for pause, tokens in asked:
        now += pause
        wait = bucket.take(tokens, now)
        assert wait >= 0
        if wait == 0:
            taken, largest = taken + tokens, max(largest, tokens)
        else:
            assert wait <= (burst + largest) / rate + 1e-6
            assert Bucket.take(bucket, tokens, now) > 0
    assert taken <= burst + rate * now + largest + 1e-6


def test_a_bucket_without_a_rate_has_no_bottom():
    bucket = Bucket(0, 0)
    assert all(bucket.take(10**6) == 0 for _ in range(100))


def test_only_so_many_addresses_are_remembered():
    buckets = Buckets(rate=0.001, burst=1, most=100)
    assert buckets.take("first") == 0
    assert buckets.take("first") > 0
    for each in range(200):
        buckets.take(str(each))
    assert len(buckets._known) == 100
    assert buckets.take("first") == 0


@pytest.mark.parametrize(
    ("client", "told"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2"),
        (("::1", 5), "::1"),
        (None, "unknown"),
    ],
)
def test_addresses(client, told):
    assert address({"client": client}) == told


def test_a_new_file_is_made_where_there_is_no_folder(tmp_path):
    add_key(tmp_path / "new" / "keys.json", "shop")
    assert os.listdir(tmp_path / "new") == ["keys.json"]
