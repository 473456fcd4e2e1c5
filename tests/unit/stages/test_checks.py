"""Twins, languages, the sentences of the checks, and the cache of embeddings."""

import random

import numpy as np
import pytest

from headstart.core.dataset import Dataset
from headstart.core.errors import DataError
from headstart.stages import twins
from headstart.stages.check import check, drop_single
from headstart.stages.embeddings import Cache, content_keys
from headstart.stages.language import language, shares

ENGLISH = "My order 55{n} from {place} with the {thing} has not arrived and nobody answers the phone, what is going on?"
SPANISH = "Mi pedido 55{n} de {place} con el {thing} no ha llegado y nadie contesta el teléfono, ¿qué está pasando?"


def test_copies_and_rewordings_are_twins_and_strangers_are_not():
    texts = [
        "I am still waiting for my card to arrive, please help",
        "i am STILL waiting for my card to arrive; please, help!!",
        "I am still waiting for my card to arrive, please help me",
        "What is the exchange rate for dollars today?",
        "",
        "",
    ]
    group = twins.groups(texts)
    assert group[0] == group[1] == group[2] != group[3]
    assert group[4] == group[5]


def test_translations_are_twins():
    places, things = (
        ["Zanzibar", "Quito", "Oslo", "Bergen", "Lima", "Turku"],
        ["Dell XPS", "ISR4331", "MG3620", "Kindle"],
    )
    facts = [{"n": n, "place": random.Random(n).choice(places), "thing": things[n % 4]} for n in range(40)]
    texts = [ENGLISH.format(**each) for each in facts] + [SPANISH.format(**each) for each in facts]
    left, right = twins.translations(texts)
    assert len(left) >= 30
    assert np.mean(right - left == 40) > 0.9


def test_grouping_does_not_depend_on_the_order():
    rng = random.Random(0)
    texts = [f"ticket {each % 40} about the late parcel number {each % 40} in the post" for each in range(80)]
    order = rng.sample(range(80), 80)
    first, second = twins.groups(texts), twins.groups([texts[each] for each in order])
    pairs = {(i, j) for i in range(80) for j in range(80) if first[i] == first[j]}
    assert pairs == {(order[i], order[j]) for i in range(80) for j in range(80) if second[i] == second[j]}


def test_languages():
    assert language("What is the status of my order, please?") == "en"
    assert language("Wo ist denn meine Bestellung geblieben, ich warte schon?") == "de"
    assert language("Где мой заказ, пожалуйста?") == "ru"
    assert language("ok") == ""
    assert list(shares(["Where is the parcel that I have sent to you?"] * 3)) == ["en"]


def data(texts, labels, **more):
    return Dataset({"text": texts, "y": labels, **more}, {"text": ["text"]}, ("y",), {"text": "text"}, "t.csv")


WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa"
TEXTS = [" ".join(random.Random(each).sample(WORDS.split(), 6)) for each in range(60)]
LABELS = ["x", "y", "z"] * 20


def warned(dataset):
    return " ".join(check(dataset).warnings)


def test_each_finding_is_a_sentence():
    blank = data(["", None, *TEXTS[2:]], LABELS)
    assert "2 rows have no input at all" in warned(blank)
    assert "blank in 1 rows" in warned(
        Dataset({"text": TEXTS, "y": ["", *LABELS[1:]], "z": LABELS}, {"text": ["text"]}, ("y", "z"))
    )
    assert "1 rows have no label" in warned(data(TEXTS, ["", *LABELS[1:]]))
    assert "different 'y'" in warned(data([TEXTS[0], *TEXTS[:59]], LABELS))
    assert "fewer than 10 rows: 'rare'" in warned(data(TEXTS, ["rare", "rare", *LABELS[2:]]))
    assert "the answer leaks" in warned(
        data(
            [f"{text} department{label}" for text, label in zip(TEXTS, LABELS, strict=True)],
            [f"department{x}" for x in LABELS],
        )
    )
    assert "near twin" in warned(
        data([text for text in TEXTS[:30] for _ in (0, 1)], [x for x in LABELS[:30] for _ in (0, 1)])
    )


def test_a_column_that_gives_the_answer_away():
    code = {"x": "1", "y": "2", "z": "3"}
    table = {"code": [code[label] for label in LABELS], "n": [str(each % 7) for each in range(60)], "y": LABELS}
    dataset = Dataset(table, {"row": ["code", "n"]}, ("y",), {"code": "category", "n": "number"})
    assert "'code' alone gives 'y'" in warned(dataset)


def test_foreign_languages_are_told():
    texts = [f"Wo ist meine Bestellung {each}? Ich habe sie noch nicht erhalten und warte." for each in range(60)]
    assert "not English (de 100%)" in warned(data(texts, LABELS))


def test_too_few_rows():
    with pytest.raises(DataError, match="usable rows"):
        check(data(TEXTS[:5], LABELS[:5]))


def test_single_rows_are_dropped_by_class():
    told: list[str] = []
    left = drop_single(data(TEXTS, ["lone", *LABELS[1:]]), "y", told)
    assert left.table["y"][0] is None
    assert "'lone'" in told[0]


def test_vectors_come_back_by_content(tmp_path):
    cache = Cache(tmp_path)
    keys = content_keys(["a", "b", "c"])
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    cache.add(keys[:2], vectors[:2])
    found, mask = cache.find(keys)
    assert mask.tolist() == [True, True, False]
    assert np.array_equal(found[:2], vectors[:2])
    next(tmp_path.glob("*.npy")).write_bytes(b"cut short")
    assert not cache.find(keys)[1].any()
    assert len(set(content_keys([str(each) for each in range(1000)]).tolist())) == 1000
