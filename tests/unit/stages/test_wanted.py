"""Which smaller forms are tried, and that each is made once."""

from __future__ import annotations

import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import UsageError
from headstart.core.recipe import Recipe
from headstart.formats.openvino import OpenVINO
from headstart.hubs._folder import open_folder
from headstart.stages import networks
from headstart.stages.ground import Ground
from headstart.stages.smaller import Variant, Workshop
from headstart.stages.wanted import Wanted
from headstart.testing.networks import write_bert


@pytest.fixture
def opened(tmp_path):
    folder = write_bert(tmp_path / "bert", layers=6)
    return networks.start(open_folder(folder, Backbone("local", str(folder)), ""), "openvino")


class Shop:
    """What is asked of a workshop."""

    def __init__(self):
        self.asked = []

    def pruned(self, share, attention):
        self.asked.append((share, attention))
        return f"without {share}"

    def in_form(self, form, of=None):
        return f"{of} in {form}" if of else form


def test_a_form_is_made_once_and_then_in_eight_bits(opened):
    shop = Shop()
    makers = Wanted(precisions=["int8"], prune=[0.25, 0.5]).resolved({"text": opened}).makers(shop)
    assert list(makers) == ["int8", "pruned 25 %", "pruned 25 %, int8", "pruned 50 %", "pruned 50 %, int8"]
    assert [make() for make in makers.values()] == [
        "int8",
        "without 0.25",
        "without 0.25 in int8",
        "without 0.5",
        "without 0.5 in int8",
    ]
    assert shop.asked == [(0.25, 0.0), (0.5, 0.0)]


def test_heads_go_beside_channels_or_alone():
    names = list(Wanted(prune=[0.5], heads=[0.25]).makers(Shop()))
    assert names == ["pruned 50 %", "pruned 50 %, 25 % fewer heads"]
    shop = Shop()
    makers = Wanted(heads=[0.25, 0.5]).makers(shop)
    assert list(makers) == ["25 % fewer heads", "50 % fewer heads"] and [make() for make in makers.values()]
    assert shop.asked == [(0.0, 0.25), (0.0, 0.5)]
    # What trains a network does not open one without some of its heads.
    assert "pruned 50 %, 25 % fewer heads, trained" not in Wanted(prune=[0.5], heads=[0.25], budget=9).makers(Shop())


def test_a_budget_adds_what_is_trained():
    names = Wanted(prune=[0.5], budget=60).makers(Shop())
    assert list(names) == ["pruned 50 %", "pruned 50 %, trained"]
    assert list(Wanted(distill=[3]).makers(Shop())) == ["distilled to 3 layers"]


def test_unasked_the_usual_forms_are_tried_and_students_with_a_budget_only(opened):
    found = Wanted().resolved({"text": opened})
    assert list(found.prune) == [0.5] and not found.distill and list(found.layers) == [4, 3]
    assert list(Wanted(budget=60).resolved({"text": opened}).distill) == [3]
    assert Wanted(layers=[2]).resolved({"text": opened}) == Wanted(layers=[2])


def test_where_nothing_can_be_left_out_it_is_not_tried_unasked_and_told_where_it_is_asked_for(opened, tmp_path):
    form = networks.start(OpenVINO().compress(opened.network, "f16", [], tmp_path / "f16"), "openvino")
    assert not Wanted().resolved({"text": form}).prune
    none = Ground(None, None, None, "")
    shop = Workshop(Variant("as it is", {"text": form}, [], {}), none, Recipe(), tmp_path, tmp_path)
    with pytest.raises(UsageError, match="parts that can be left out"):
        shop.pruned(0.5)


def test_a_student_stands_in_for_one_network_of_texts_alone(opened, tmp_path):
    none = Ground(None, None, None, "")
    whole = Variant("as it is", {"text": opened, "image": opened}, [], {})
    shop = Workshop(whole, none, Recipe(), tmp_path, tmp_path)
    with pytest.raises(UsageError, match="whose one network reads texts"):
        Wanted(distill=[3]).makers(shop)["distilled to 3 layers"]()
