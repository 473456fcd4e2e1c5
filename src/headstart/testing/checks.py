"""Conformance: what every implementation of a contract must do, whoever wrote it.

A third party's test is one line: `check_task(MyTask)`. Each check raises AssertionError with what it found.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.arrays import Arrays, take
from headstart.core.backbone import Backbone, Hub, Network
from headstart.core.blob import Blob
from headstart.core.course import Course
from headstart.core.errors import DataError
from headstart.core.files import sha256
from headstart.core.format import Format
from headstart.core.head import Head
from headstart.core.ledger import Decision, Label, Ledger, Prediction, Record, Run
from headstart.core.method import Budget, HeadMethod, Job, NetworkMethod
from headstart.core.modality import HANDCRAFTED, Modality
from headstart.core.progress import Quiet
from headstart.core.source import ReadOptions, Source, Table
from headstart.core.task import Task
from headstart.methods import merit
from headstart.stages.networks import start

LABELS = ["red", "green", "blue", "red", "green"] * 24
TAGS = ["a|b", "a", "b|c", "c", "a|c"] * 24
NUMBERS = [f"{1.5 * each + each % 7:.2f}" for each in range(120)]
TOYS: dict[str, list[Any]] = {"labels": LABELS, "tags": TAGS, "numbers": NUMBERS}


def through_json(value: Any) -> Any:
    """Return a value after a trip through JSON, which must not change it."""
    again = json.loads(json.dumps(value, allow_nan=False))
    assert again == value, f"{value!r} is not plain JSON data"
    return again


def toy_cells(kind: type[Task]) -> list[Any]:
    """Return the toy target cells that a task claims most."""
    name = max(TOYS, key=lambda each: kind.claims(TOYS[each]))
    return TOYS[name]


def toy_features(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return named arrays of all kinds that methods read, which tell `LABELS`' colours apart."""
    rng = np.random.default_rng(seed)
    names = np.array(LABELS[:rows])
    signal = np.stack([names == color for color in ("red", "green", "blue")], axis=1).astype(np.float32)
    embedding = np.concatenate([2 * signal, rng.standard_normal((rows, 5)).astype(np.float32)], axis=1)
    row = np.concatenate([signal + 0.1 * rng.standard_normal((rows, 3)), rng.integers(0, 4, (rows, 1))], axis=1)
    return {
        "text": np.array([f"the {name} thing number {each}" for each, name in enumerate(names)], dtype=object),
        "embedding": embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
        "row": row.astype(np.float32),
        "row_scaled": row.astype(np.float32),
        "row_kind": np.tile([False, False, False, True], (rows, 1)),
    }


def check_task(kind: type[Task]) -> None:
    """Check one task on the toy cells that it claims."""
    cells = toy_cells(kind)
    assert kind.claims(cells) > 0
    task = kind.of("t", cells)
    y = task.encode(cells)
    assert len(y) == len(cells)
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((len(cells), task.width)).astype(np.float32)
    task = task.calibrate(scores, y, 0.95)
    assert type(task).load(through_json(task.spec())) == task
    assert task.calibrated(scores).shape == scores.shape
    answers = task.decode(scores)
    assert set(answers) == set(task.answer_schema())
    assert task.target in answers
    assert all(len(column) == len(cells) for column in answers.values())
    through_json(answers)
    judged = task.metrics(scores, y)
    assert np.isclose(judged[task.primary], task.correct(scores, y).mean())
    assert judged[f"{task.primary}_ci"][0] <= judged[task.primary] <= judged[f"{task.primary}_ci"][1]
    through_json(judged)
    assert task.majority().shape == (task.width,)
    assert len(task.gain(scores, y)) == len(y)
    through_json(task.without_signal().spec())


def check_head(head: Head, arrays: Arrays) -> None:
    """Check one fitted head: its parts are plain, and it answers a row alike alone, among others, and reopened."""
    scores = head.scores(arrays)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    again = type(head).of(through_json(head.spec()), {name: value.copy() for name, value in head.arrays().items()})
    assert np.array_equal(again.scores(arrays), scores)
    for row in range(3):
        alone = head.scores(take(arrays, np.array([row])))
        assert np.allclose(alone[0], scores[row], atol=1e-4), (alone[0], scores[row])


def check_method(kind: type[HeadMethod], task: Task, cells: Sequence[Any]) -> None:
    """Check one method on one task: it says why not, or learns something, repeatably, and holds rows out."""
    features = toy_features(len(cells))
    method = kind()
    reason = method.supports(task, list(features))
    assert isinstance(reason, str)
    if reason:
        return
    y = task.encode(cells)
    jobs = [Job(task, y, features, np.arange(len(y)), 0, Budget(), 1, Quiet()) for _ in range(2)]
    first, second = (method.fit(job) for job in jobs)
    assert first.held_out.shape == (len(y), task.width)
    assert np.array_equal(first.held_out, second.held_out)
    check_head(first.head, features)
    assert first.race
    through_json([vars(each) for each in first.race])


def check_network_method(kind: type[NetworkMethod], courses: Sequence[Course]) -> None:
    """Check one method on the same course twice: it says why not, or tunes a network alike, which opens again alike.

    Args:
        courses: two courses that differ in their folders alone, such as two of `headstart.testing.courses.toy_course`.

    Raises:
        MissingExtra: a package that it needs is not installed.
    """
    method, course = kind(), courses[0]
    reason = method.supports(course)
    assert isinstance(reason, str)
    if reason:
        return
    assert isinstance(method.worthwhile(course), str)
    cost = method.estimate(course)
    assert cost.seconds > 0 and cost.memory >= 0
    first, second = (method.tune(each) for each in courses)
    assert sha256(first.network.weights) == sha256(second.network.weights), "the same seed gave other weights"
    assert first.network.backbone.checksum == sha256(first.network.weights)
    assert set(first.heads) == set(course.lessons)
    through_json(dict(first.trained))
    through_json([vars(each) for each in first.race])
    opened = {name: start(first.network, name, precision="f32") for name in ("", "torch")}
    found = {name: _unit(each.session.run(course.examples.batch(course.held))) for name, each in opened.items()}
    assert np.allclose(found[""], found["torch"], atol=1e-3), "two engines give other embeddings of the tuned network"
    score = 0.0
    for name, lesson in course.lessons.items():
        features = {"embedding": found["torch"]}
        check_head(first.heads[name], features)
        y = lesson.y[course.held]
        scores = first.heads[name].scores(features)
        score += (float(lesson.task.correct(scores, y).mean()) + 1e-3 * merit(lesson.task, scores, y)) / len(
            course.lessons
        )
    assert abs(score - first.score) < 1e-4, f"{first.score} while it was trained, {score} opened again"


def _unit(outputs: Arrays) -> np.ndarray:
    vectors = outputs["embedding"]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def check_modality(kind: type[Modality], table: Table, kinds: dict[str, str]) -> None:
    """Check one modality on a table: rows stay rows, blanks are read, and its spec is plain data."""
    modality = kind.fit(table, list(kinds), kinds)
    again = kind.of(through_json(modality.spec()))
    first, second = modality.prepare(table), again.prepare(table)
    assert set(first) == set(second)
    rows = len(next(iter(table.values())))
    for name, values in first.items():
        assert len(values) == rows, name
        assert np.array_equal(values, second[name]) or np.array_equal(
            np.nan_to_num(values.astype(float)), np.nan_to_num(second[name].astype(float))
        )
    modality.prepare({name: [None] * 2 for name in table})
    if kind.pretrained:
        assert len(modality.contents(first)) == rows
    if kind.files:
        crafted = modality.handcrafted(first)
        assert all(name.endswith(HANDCRAFTED) and len(each) == rows for name, each in crafted.items())
        assert all(np.isfinite(each).all() for each in crafted.values())
        assert modality.unreadable({name: [Blob("broken", lambda: b"\x00not a file")] for name in table}).keys() == {0}
    assert set(modality.schema()) == set(modality.columns)
    through_json(modality.schema())


def check_source(kind: type[Source], folder: Path) -> None:
    """Check one source that writes files: what was written is read back, and a failed write leaves nothing."""
    source = kind()
    path = folder / f"table.{kind.__module__.rpartition('.')[2]}"
    if not source.claims(str(path)):
        return
    table: Table = {"text": ["plain", 'a "quoted", cell', "two\nlines", "ümläut"], "label": ["a", "b", "a", "b"]}
    with source.writer(str(path)) as writer:
        writer.write({name: cells[:3] for name, cells in table.items()})
        writer.write({name: cells[3:] for name, cells in table.items()})
    read: Table = {name: [] for name in table}
    for chunk in source.chunks(str(path), ReadOptions(), 2):
        for name in table:
            read[name] += chunk[name]
    assert read == table
    before = path.read_bytes()
    try:
        with source.writer(str(path)) as writer:
            writer.write(table)
            raise RuntimeError
    except RuntimeError:
        pass
    assert path.read_bytes() == before
    assert [each.name for each in folder.iterdir()] == [path.name]


def check_format(kind: type[Format], network: Network, encoded: Arrays) -> None:
    """Check one engine on a network: all its precisions agree within its tolerance, in the order of the rows."""
    engine = kind()
    if engine.supports(network):
        return
    outputs = {name: engine.open(network, name, 1).run(encoded)["embedding"] for name in engine.offered(network)}
    reference = outputs["f32"]
    for values in outputs.values():
        assert values.shape == reference.shape
        cosine = (values * reference).sum(axis=1) / np.linalg.norm(values, axis=1) / np.linalg.norm(reference, axis=1)
        assert cosine.mean() >= 1 - engine.tolerance
    ends = np.cumsum(encoded["lengths"])
    starts = ends - encoded["lengths"]
    session = engine.open(network, "f32", 1)
    for row in (0, len(ends) - 1):
        ids = encoded["ids"][starts[row] : ends[row]]
        alone = session.run({"ids": ids, "lengths": encoded["lengths"][row : row + 1]})["embedding"]
        assert np.allclose(alone[0], reference[row], atol=1e-4)


def check_ledger(kind: type[Ledger], place: str) -> None:
    """Check one ledger at a place where there is none: what is appended is there, once, in order, and can be forgotten.

    Args:
        kind: the implementation.
        place: a path or URL that it claims.
    """
    assert kind.claims(place)
    made = [
        Prediction(f"p{each}", 100.0 + each, f"r{each // 2}", each % 2, "/predict", "m", "1", pred=word, conf=0.5)
        for each, word in enumerate(["plain", "ümläut", "two\nlines", 'it\'s "quoted"', ""])
    ]
    made[1] = replace(made[1], input_mac=b"\x00\xff", batch_size=3, reason="unknown")
    label = Label("l0", 200.0, "p0", "other")
    others: list[Record] = [
        Run("n0", 1.0, "serve", "m", "1"),
        Decision("d0", 2.0, "rollout", "m:2", "ada", evidence="{}"),
    ]
    with kind.open(place) as ledger:
        assert ledger.append(made) == len(made)
        assert ledger.append([made[0], label, *others]) == 3, "what is there already was appended again"
        assert ledger.append([]) == 0
        try:
            ledger.append([replace(made[0], id="p9"), replace(made[0], id="p10", pred="lone \ud800 surrogate")])
            raise AssertionError("what cannot be kept was taken")
        except DataError:
            pass
        assert list(ledger.read(Prediction)) == made, "one record that cannot be kept must take all with it"
    with kind.open(place) as ledger:
        assert list(ledger.read(Prediction, newest=True, limit=2)) == made[:2:-1]
        assert list(ledger.read(Prediction, since=101.0, until=103.0)) == made[1:3]
        assert list(ledger.read(Prediction, where={"request_id": "r1", "row": 1})) == [made[3]]
        assert [*ledger.read(Label), *ledger.read(Run), *ledger.read(Decision)] == [label, *others]
        assert ledger.forget(before=102.0, limit=1) == 1
        assert ledger.forget(before=102.0) == 1
        assert ledger.forget(before=102.0) == 0
        assert list(ledger.read(Prediction)) == made[2:]
        assert list(ledger.read(Label)) == [], "a label outlived its prediction"


@contextlib.contextmanager
def _without_sockets() -> Iterator[None]:
    """Be offline, and find out who opens a socket all the same."""
    before, create = os.environ.get("HEADSTART_OFFLINE"), socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"Offline, a socket was opened to {address!r}.")

    os.environ["HEADSTART_OFFLINE"] = "1"
    socket.socket.connect = refuse  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        socket.socket.connect = create  # type: ignore[method-assign]
        os.environ.pop("HEADSTART_OFFLINE")
        if before is not None:
            os.environ["HEADSTART_OFFLINE"] = before


def check_hub(kind: type[Hub]) -> None:
    """Check one hub: what it lists can be named again, and offline it opens no socket.

    Raises:
        MissingExtra: its package is not installed.
    """
    with _without_sockets():
        found = kind().search("")
        assert all(each.place.exists() and each.size >= 0 for each in kind().held())
    for backbone in found:
        again = Backbone.parse(backbone.reference)
        assert (again.hub, again.name, again.revision) == (backbone.hub, backbone.name, backbone.revision)
        assert backbone.hub == kind.__module__.rpartition(".")[2]
