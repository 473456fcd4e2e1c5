"""Masks, tags, classes and answers of text networks, next to those of the transformers library's own pipelines."""

from __future__ import annotations

import numpy as np
import pytest

from headstart import pipelines
from headstart.core.errors import DataError, UsageError
from headstart.pipelines.tag_tokens import Word, entities
from tests.unit.pipelines import toys

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
NLI = ["contradiction", "neutral", "entailment"]


def named(labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {name: each for each, name in enumerate(labels)}}


def squeezed(text):
    """Return a text without the case and the spaces that a tokenizer's decoding changes."""
    return text.casefold().replace(" ", "")


def theirs(task, folder):
    """Return the library's own pipeline."""
    return transformers.pipeline(task, model=str(folder), tokenizer=str(folder))


def ours(folder, use, inputs, **options):
    network, session = toys.opened(folder, use)
    pipeline = pipelines.registry.get(use)()
    assert pipeline.supports(network) == ""
    return pipeline.run(network, session, inputs, pipeline.settle(options))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "masks": toys.bert(root / "masks", "BertForMaskedLM"),
        "roberta": toys.roberta(root / "roberta", "RobertaForMaskedLM"),
        "tags": toys.bert(root / "tags", "BertForTokenClassification", **named(TAGS)),
        "classes": toys.bert(root / "classes", "BertForSequenceClassification", **named(["bad", "fair", "good"])),
        "nli": toys.bert(root / "nli", "BertForSequenceClassification", **named(NLI)),
        "answers": toys.bert(root / "answers", "BertForQuestionAnswering"),
    }


class TestFillMask:
    @pytest.mark.parametrize(("model", "mask"), [("masks", "[MASK]"), ("roberta", "<mask>")])
    def test_tokens_and_scores_are_the_librarys(self, folders, model, mask):
        texts = [f"The goal of AI is to {mask} human intelligence.", f"{mask} has not arrived yet"]
        for text, record in zip(texts, ours(folders[model], "fill_mask", texts, top=7), strict=True):
            wanted = theirs("fill-mask", folders[model])(text, top_k=7)
            assert [each["token"] for each in record["top"]] == [each["token_str"].strip() for each in wanted]
            assert [each["score"] for each in record["top"]] == pytest.approx([e["score"] for e in wanted], abs=2e-6)
            for mine, other in zip(record["top"], wanted, strict=True):
                if not other["token_str"].startswith(("[", "<")):  # theirs leaves special tokens out
                    assert squeezed(mine["text"]) == squeezed(other["sequence"].removeprefix("##"))

    def test_every_mask_of_a_text_is_filled(self, folders):
        text = "A [MASK] and a [MASK]."
        (record,) = ours(folders["masks"], "fill_mask", [text], top=3)
        wanted = theirs("fill-mask", folders["masks"])(text, top_k=3)
        for mine, other in zip(record["masks"], wanted, strict=True):
            assert [each["token"] for each in mine["top"]] == [each["token_str"] for each in other]
        assert "[MASK]" not in record["text"]

    def test_case_and_spaces_of_the_text_stay(self, folders):
        (record,) = ours(folders["masks"], "fill_mask", ["The  Goal [MASK]!"])
        assert record["text"].startswith("The  Goal") and record["text"].endswith("!")

    def test_a_mask_far_behind_is_seen_within_its_own_window(self, folders):
        long = f"{toys.LONG} It was [MASK] in Paris."
        (record,) = ours(folders["masks"], "fill_mask", [long])
        assert record["text"].startswith(toys.LONG) and record["text"].endswith(" in Paris.")

    def test_a_text_without_a_mask_names_the_mask(self, folders):
        with pytest.raises(DataError, match="<mask>"):
            ours(folders["roberta"], "fill_mask", ["The goal is to [MASK] it."])

    def test_answers_do_not_depend_on_their_neighbours(self, folders):
        texts = [f"{'very ' * each}[MASK]" for each in range(20)]
        together = ours(folders["masks"], "fill_mask", texts)
        alone = [ours(folders["masks"], "fill_mask", [each])[0] for each in texts[:3]]
        for one, other in zip(together, alone, strict=False):
            assert one["score"] == pytest.approx(other["score"], abs=2e-6)


class TestTagTokens:
    def test_entities_are_the_librarys(self, folders):
        found = 0
        for text, record in zip(toys.CORPUS, ours(folders["tags"], "tag_tokens", toys.CORPUS), strict=True):
            wanted = theirs("token-classification", folders["tags"])(text, aggregation_strategy="first")
            assert [(each["label"], each["start"], each["end"]) for each in record["entities"]] == [
                (each["entity_group"], each["start"], each["end"]) for each in wanted
            ]
            assert [each["score"] for each in record["entities"]] == pytest.approx(
                [float(each["score"]) for each in wanted], abs=2e-6
            )
            assert all(each["text"] == text[each["start"] : each["end"]] for each in record["entities"])
            found += len(wanted)
        assert found > 10

    def test_a_long_text_is_read_to_its_end(self, folders):
        (record,) = ours(folders["tags"], "tag_tokens", [toys.LONG])
        starts = [each["start"] for each in record["entities"]]
        assert starts == sorted(set(starts)) and starts[-1] > len(toys.LONG) - 200

    def test_spaces_that_a_token_holds_are_no_part_of_an_entity(self, tmp_path):
        folder = toys.roberta(tmp_path, "RobertaForTokenClassification", **named(["O", "B-PER", "I-PER"]))
        found = [each for record in ours(folder, "tag_tokens", toys.CORPUS) for each in record["entities"]]
        assert len(found) > 3 and all(each["text"] == each["text"].strip() != "" for each in found)

    def test_an_empty_text_has_none(self, folders):
        assert ours(folders["tags"], "tag_tokens", ["", "  "]) == [{"entities": []}] * 2

    @pytest.mark.parametrize(
        ("labels", "groups"),
        [
            ("B-A I-A O B-A", ["A2", "A1"]),
            ("B-A B-A", ["A1", "A1"]),
            ("I-A I-B", ["A1", "B1"]),
            ("B-A I-A E-A S-A", ["A3", "A1"]),
            ("B-A L-A U-B", ["A2", "B1"]),
            ("A A O", ["A2"]),
            ("NOUN VERB", ["NOUN1", "VERB1"]),
        ],
    )
    def test_label_schemes(self, labels, groups):
        words = [Word(each, each + 1, name, 1.0) for each, name in enumerate(labels.split())]
        assert [f"{kind}{len(run)}" for kind, run in entities(words)] == groups


class TestClassify:
    def test_scores_are_the_librarys(self, folders):
        wanted = theirs("text-classification", folders["classes"])(toys.CORPUS, top_k=None)
        for record, other in zip(ours(folders["classes"], "classify", toys.CORPUS), wanted, strict=True):
            assert [each["label"] for each in record["top"]] == [each["label"] for each in other]
            assert [each["score"] for each in record["top"]] == pytest.approx([e["score"] for e in other], abs=2e-6)

    @pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
    def test_problem_types_are_the_librarys(self, tmp_path, kind):
        labels = ["only"] if kind == "regression" else ["a", "b", "c"]
        folder = toys.bert(tmp_path, "BertForSequenceClassification", problem_type=kind, **named(labels))
        (record,) = ours(folder, "classify", [toys.CORPUS[0]])
        wanted = theirs("text-classification", folder)(toys.CORPUS[0], top_k=None)
        assert [each["score"] for each in record["top"]] == pytest.approx([e["score"] for e in wanted], abs=2e-6)

    def test_a_decoder_that_classifies_reads_the_last_real_token(self, tmp_path):
        folder = toys.gpt2(tmp_path, "GPT2ForSequenceClassification", **named(["no", "yes"]))
        texts = ["!", "Ada Lovelace!", toys.CORPUS[0]]
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        for text, record in zip(texts, ours(folder, "classify", texts), strict=True):
            with torch.no_grad():
                wanted = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
            assert record["score"] == pytest.approx(float(wanted.max()), abs=2e-6)


class TestZeroShot:
    @pytest.mark.parametrize("several", [False, True])
    def test_scores_are_the_librarys(self, folders, several):
        labels = ["orders", "travel", "history"]
        given = {"labels": "orders, travel,history", "several": several, "template": "It is about {}."}
        pipe = theirs("zero-shot-classification", folders["nli"])
        for text, record in zip(toys.CORPUS, ours(folders["nli"], "zero_shot", toys.CORPUS, **given), strict=True):
            wanted = pipe(text, labels, hypothesis_template="It is about {}.", multi_label=several)
            assert [each["label"] for each in record["top"]] == wanted["labels"]
            assert [each["score"] for each in record["top"]] == pytest.approx(wanted["scores"], abs=2e-6)

    def test_it_asks_for_classes_and_a_place_for_them(self, folders):
        with pytest.raises(UsageError, match="--labels"):
            ours(folders["nli"], "zero_shot", ["text"])
        with pytest.raises(UsageError, match="no place"):
            ours(folders["nli"], "zero_shot", ["text"], labels=["a", "b"], template="about it")

    def test_a_long_text_is_cut_and_the_class_is_not(self, folders):
        (record,) = ours(folders["nli"], "zero_shot", [toys.LONG], labels=["orders", "travel"])
        assert sum(each["score"] for each in record["top"]) == pytest.approx(1, abs=1e-5)
        with pytest.raises(DataError, match="cannot be cut"):
            ours(folders["nli"], "zero_shot", ["text"], labels=[toys.LONG, "b"])


def spans(folder, question, context):
    """Return the score of each span of a short context by its characters, and that of no answer: the model's own."""
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(question, context, return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        output = model(**given)
    starts, ends = output.start_logits[0].double(), output.end_logits[0].double()
    of, where = given.sequence_ids(0), tokenizer(question, context, return_offsets_mapping=True)["offset_mapping"]
    inside = [at for at, each in enumerate(of) if each == 1]
    found = {(a, b): float(starts[a] + ends[b]) for a in inside for b in inside if a <= b < a + 30}
    total = np.logaddexp.reduce([*found.values(), float(starts[0] + ends[0])])
    return found, total, where


class TestAnswer:
    CONTEXT = "Who wrote the letters? Ada Lovelace wrote them in London, in 1843."

    def test_the_best_span_and_its_share_are_the_models(self, folders):
        question = "Where did Ada write?"
        found, total, where = spans(folders["answers"], question, self.CONTEXT)
        (first, last), score = max(found.items(), key=lambda each: each[1])
        (record,) = ours(folders["answers"], "answer", [question], context=self.CONTEXT)
        assert record["start"] <= where[first][0] and record["end"] >= where[last][1]
        assert record["score"] == pytest.approx(float(np.exp(score - total)), abs=2e-6)
        assert record["answer"] == self.CONTEXT[record["start"] : record["end"]]

    def test_answers_are_whole_words_and_several_are_different(self, folders):
        (record,) = ours(folders["answers"], "answer", ["Who?"], context=self.CONTEXT, top=5)
        assert len({(each["start"], each["end"]) for each in record["top"]}) == 5
        for each in record["top"]:
            around = self.CONTEXT[max(0, each["start"] - 1) : each["start"] + 1]
            assert not around.isalpha() or each["start"] == 0
        scores = [each["score"] for each in record["top"]]
        assert scores == sorted(scores, reverse=True) and record["answer"] == record["top"][0]["answer"]

    def test_a_long_context_is_searched_to_its_end(self, folders):
        question = "Who was the king?"
        (record,) = ours(folders["answers"], "answer", [question], context=toys.LONG, top=20)
        assert max(each["start"] for each in record["top"]) > 1000
        for each in record["top"]:
            assert toys.LONG[each["start"] : each["end"]] == each["answer"]

    def test_spaces_that_a_token_holds_are_no_part_of_an_answer(self, tmp_path):
        folder = toys.roberta(tmp_path, "RobertaForQuestionAnswering")
        (record,) = ours(folder, "answer", ["Who?"], context=self.CONTEXT, top=20)
        for each in record["top"]:
            assert each["answer"] == each["answer"].strip() == self.CONTEXT[each["start"] : each["end"]] != ""

    def test_records_bring_their_own_context(self, folders):
        plain = ours(folders["answers"], "answer", ["Who?"], context=self.CONTEXT)
        given = {"question": "Who?", "context": self.CONTEXT}
        assert ours(folders["answers"], "answer", [given]) == plain

    @pytest.mark.parametrize("context", [None, "", "   "])
    def test_a_missing_context_is_asked_for(self, folders, context):
        with pytest.raises(UsageError, match="--context"):
            ours(folders["answers"], "answer", ["Who?"], context=context)

    def test_a_question_longer_than_the_model_is_refused(self, folders):
        with pytest.raises(DataError, match="tokens"):
            ours(folders["answers"], "answer", [toys.LONG], context=self.CONTEXT)
