"""Every implementation found in the plugin folders keeps its contract."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from headstart import formats, heads, hubs, ledgers, methods, modalities, sources, tasks
from headstart.core.backbone import Backbone
from headstart.core.errors import MissingExtra
from headstart.core.progress import Quiet
from headstart.core.registry import Registry
from headstart.hubs.local import Local
from headstart.server import protocols
from headstart.testing import checks
from headstart.testing.courses import toy_course, toy_network
from headstart.testing.files import picture, recording
from headstart.testing.networks import write_bert

REGISTRIES: list[Registry] = [
    module.registry for module in (formats, heads, hubs, ledgers, methods, modalities, sources, tasks, protocols)
]
TABLE = {
    "amount": ["1.5", "2", "", "x", "1e400"],
    "kind": ["a", "b", None, "a", "c"],
    "day": ["2026-01-02", "2026-02-03T10:30", "", "3.4.2026", "never"],
    "body": ["My order has not arrived", "", None, "lone \ud800 surrogate", "x" * 30_000],
}
FILES = {
    "image": [picture(1, shape="bar"), picture(2, shape="square", kind="JPEG"), picture(3).read()],
    "audio": [recording(1), recording(2, pitch=220), recording(3).read()],
}
KINDS = {"row": {"amount": "number", "kind": "category", "day": "date"}, "text": {"body": "text"}} | {
    name: {"file": name} for name in FILES
}


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda each: each.kind)
def test_each_file_holds_one_final_implementation(registry):
    for name in registry.names():
        kind = registry.get(name)
        assert issubclass(kind, registry.contract)
        assert kind.__doc__
        assert getattr(kind, "__final__", False), f"{kind} is not marked final"
        # A contract may come in kinds, which stand beside it: a Method is a HeadMethod or a NetworkMethod.
        foreign = [base for base in kind.__mro__[1:-1] if base.__module__ != registry.contract.__module__]
        assert foreign == [base for base in registry.contract.__mro__[1:-1] if base in foreign]
        assert not inspect.isabstract(kind)


@pytest.mark.parametrize("name", tasks.registry.names())
def test_task(name):
    checks.check_task(tasks.registry.get(name))


@pytest.mark.parametrize("task", tasks.registry.names())
@pytest.mark.parametrize("name", methods.head_methods())
def test_method(name, task):
    kind = tasks.registry.get(task)
    cells = checks.toy_cells(kind)
    checks.check_method(methods.registry.get(name), kind.of("t", cells), cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", tasks.registry.names())
@pytest.mark.parametrize("name", methods.network_methods())
def test_network_method(name, task, tmp_path):
    network, kind = toy_network(tmp_path / "tiny"), tasks.registry.get(task)
    made = [toy_course(network, tmp_path / part, task=kind) for part in ("first", "second")]
    try:
        checks.check_network_method(methods.registry.get(name), made)
    except MissingExtra as error:
        pytest.skip(error.problem)


@pytest.mark.parametrize("name", modalities.registry.names())
def test_modality(name):
    table = {"file": FILES[name]} if name in FILES else {key: TABLE[key] for key in KINDS[name]}
    checks.check_modality(modalities.registry.get(name), table, KINDS[name])


@pytest.mark.parametrize("name", sources.registry.names())
def test_source(name, tmp_path):
    checks.check_source(sources.registry.get(name), tmp_path)


@pytest.mark.parametrize("name", ledgers.registry.names())
def test_ledger(name, tmp_path):
    checks.check_ledger(ledgers.registry.get(name), str(tmp_path / f"ledger.{name}"))


@pytest.mark.parametrize("name", hubs.registry.names())
def test_hub(name):
    try:
        checks.check_hub(hubs.registry.get(name))
    except MissingExtra as error:
        pytest.skip(error.problem)


@pytest.mark.parametrize("name", formats.registry.names())
def test_format(name, tmp_path):
    folder = write_bert(tmp_path / "tiny")
    network = Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())
    text = modalities.registry.get("text").of({"columns": ["body"]}).bind(network)
    texts = ["my order has not arrived yet", "refund", "where is the parcel " * 20, "password reset please", ""]
    encoded = text.encode({"text": np.array(texts * 9, dtype=object)})
    checks.check_format(formats.registry.get(name), network, encoded)
