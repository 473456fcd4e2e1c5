"""The Grafana dashboard asks for what the server tells."""

from __future__ import annotations

import json
import re
from importlib.resources import files

from prometheus_client.parser import text_string_to_metric_families

from headstart.ledgers import open_ledger
from headstart.server.protection.protected import keeping
from headstart.testing.toys import toy_runtime

DASHBOARD = json.loads(files("headstart.server.record").joinpath("dashboard.json").read_text(encoding="utf-8"))
PANELS = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
NAME = re.compile(r"\b(?:headstart|process)_\w+")


def test_every_measure_in_it_exists(serving, tmp_path):
    with keeping(lambda: open_ledger(str(tmp_path / "l.sqlite")), b"s" * 32) as journal:
        with serving(toy_runtime(("body",)), journal=journal) as client:
            client.post("/predict", json="red")
            client.get("/no-such-page")
            told = client.get("/metrics").text
        measured = list(journal.metrics().collect())
    families = [*text_string_to_metric_families(told), *measured]
    known = {sample.name for each in families for sample in each.samples}
    # These have no sample before something is refused or a shadow answers.
    known |= {f"{each.name}_total" for each in families if each.type == "counter"}
    asked = {name for panel in PANELS for each in panel["targets"] for name in NAME.findall(each["expr"])}
    assert len(asked) > 15
    assert asked - known == set()


def test_labels_in_it_exist(serving):
    with serving(toy_runtime(("body",))) as client:
        client.post("/predict", json="red")
        told = client.get("/metrics").text
    labels = {
        sample.name: set(sample.labels) for each in text_string_to_metric_families(told) for sample in each.samples
    }
    for panel in PANELS:
        for each in panel["targets"]:
            (name, *_), by = NAME.findall(each["expr"]), re.findall(r"sum by \(([^)]*)\)", each["expr"])
            if name in labels and by:
                assert set(by[0].split(", ")) - {"instance"} <= labels[name], each["expr"]


def test_panels_lie_side_by_side():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({each["id"] for each in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(each["description"] for each in PANELS)
