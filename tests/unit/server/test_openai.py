"""OpenAI's API: vectors, texts, conversations and transcripts."""

from __future__ import annotations

import base64
import json
import threading

import numpy as np
import pytest

from headstart.server.limits import Limits
from headstart.server.protocols.openai import OpenAI
from headstart.server.requests.inputs import Caps
from headstart.testing.toys import toy_runtime
from tests.unit.server import writers

TEXTS = ["my order has not arrived", "refund please"]


@pytest.fixture(scope="module")
def client(serving, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    models = {
        "colours": toy_runtime(),
        "encoder": writers.embedder(root / "encoder"),
        "tickets": writers.fitted(root / "tickets"),
        "letters": writers.letters(root / "letters", again=3),
        "talker": writers.talker(root / "talker"),
        "listener": writers.listener(root / "listener"),
    }
    with serving(models) as client:
        yield client


def embed(client, model="encoder", **more):
    return client.post("/v1/embeddings", json={"model": model, **more})


def complete(client, **more):
    return client.post("/v1/completions", json={"model": "letters", "prompt": "abc", "max_tokens": 5, **more})


def chat(client, *texts, **more):
    messages = [{"role": "user", "content": text} for text in texts]
    return client.post("/v1/chat/completions", json={"model": "talker", "messages": messages, **more})


def transcribe(client, file=None, model="listener", **fields):
    files = {"file": ("a.wav", writers.sound(0.4) if file is None else file, "audio/wav")}
    return client.post("/v1/audio/transcriptions", files=files, data={"model": model, **fields})


def events(answer):
    """Return the data of server-sent events; the last is [DONE]."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def message(answer, status=400):
    """Return the message of a refusal."""
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["message"]


def test_models(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == list(client.service.shelf.names())
    one = client.get("/v1/models/encoder").json()
    assert (one["id"], one["object"], one["owned_by"]) == ("encoder", "model", "headstart")
    assert one["created"] > 1_700_000_000
    gone = client.get("/v1/models/encodr")
    assert "Did you mean 'encoder'?" in message(gone, 404)
    assert gone.json()["error"]["type"] == "invalid_request_error"


def test_vectors_as_numbers_and_as_bytes(client):
    plain = embed(client, input=TEXTS).json()
    assert [each["index"] for each in plain["data"]] == [0, 1]
    assert plain["model"] == "encoder"
    # The tokenizer's own numbers, with one at each end.
    assert plain["usage"] == {"prompt_tokens": 5 + 2 + 2 + 2, "total_tokens": 11}
    packed = embed(client, input=TEXTS, encoding_format="base64").json()
    for one, other in zip(plain["data"], packed["data"], strict=True):
        vector = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        assert np.array_equal(vector, np.array(one["embedding"], "<f4"))
        assert len(vector) == 32


def test_vectors_are_those_of_the_model_that_labels(client):
    one, other = (embed(client, model, input=TEXTS[0]).json()["data"] for model in ("encoder", "tickets"))
    assert one == other


def test_vectors_can_be_cut_short(client):
    whole = np.array(embed(client, input="my order").json()["data"][0]["embedding"])
    short = np.array(embed(client, input="my order", dimensions=8).json()["data"][0]["embedding"])
    assert np.allclose(short, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)
    assert embed(client, input="my order", dimensions=32).json()["data"][0]["embedding"] == whole.tolist()
    assert "have 32 numbers" in message(embed(client, input="my order", dimensions=33))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input": [1, 2, 3]}, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "token numbers"),
        ({"input": []}, "There is no 'input'"),
        ({}, "There is no 'input'"),
        ({"input": {"a": 1}}, "Text 1 of 'input' is an object"),
        ({"input": ["a", None]}, "Text 2 of 'input' is null"),
        ({"input": ["a", " "]}, "Text 2 of 'input' is empty"),
        ({"input": "a", "encoding_format": "int8"}, "Allowed: 'float', 'base64'"),
        ({"input": "a", "dimensions": 0}, "'dimensions' is 0"),
        ({"input": "a", "dimensions": True}, "'dimensions' is true"),
        ({"input": "a", "inputs": "a"}, "Did you mean 'input'?"),
        ({"input": "a", "model": 3}, "'model' is a number"),
    ],
)
def test_what_no_vectors_are_made_of(client, given, words):
    assert words in message(client.post("/v1/embeddings", json={"model": "encoder", **given}))


def test_models_without_vectors_say_which_have_some(client):
    assert "Models that do: 'encoder', 'tickets'" in message(embed(client, "colours", input="a"))
    assert "no model 'none'" in message(embed(client, "none", input="a"), 404)


def test_a_text_is_continued(client):
    answer = complete(client).json()
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["choices"] == [{"index": 0, "text": "abcab", "logprobs": None, "finish_reason": "length"}]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}
    ended = complete(client, max_tokens=50).json()
    assert (ended["choices"][0]["text"], ended["choices"][0]["finish_reason"]) == ("abcabcabc", "stop")


def test_several_texts_are_continued(client):
    answer = complete(client, prompt=["abc", "xyz"]).json()
    assert [each["text"] for each in answer["choices"]] == ["abcab", "xyzxy"]
    assert [each["index"] for each in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 10


@pytest.mark.parametrize("stop", ["ca", ["ca"], ["", "ca", "zzz"]])
def test_stop_words(client, stop):
    choice = complete(client, stop=stop).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("ab", "stop")


def test_a_stream_says_the_same_and_how_it_ended(client):
    told = events(complete(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(each["choices"][0]["text"] for each in told[:-1]) == "abcab"
    assert [each["choices"][0]["finish_reason"] for each in told[:-1]][-2:] == [None, "length"]
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}
    assert all(each["usage"] is None for each in told[:-1])
    assert len({each["id"] for each in told}) == 1
    stopped = events(complete(client, stream=True, stop="ca"))
    assert stopped[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in each for each in stopped)


def test_a_conversation_is_answered(client):
    pytest.importorskip("jinja2")
    answer = chat(client, "where is my order").json()
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "is my order is my order", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    told = events(chat(client, "where is my order", stream=True, max_completion_tokens=2))
    assert told[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in told) == "is my"
    assert told[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert told[0]["object"] == "chat.completion.chunk"


def test_messages_may_be_in_parts(client):
    pytest.importorskip("jinja2")
    parts = [{"type": "text", "text": "where is"}, {"type": "text", "text": " my order"}]
    messages = [{"role": "developer", "content": "thanks"}, {"role": "user", "content": parts}]
    answer = client.post("/v1/chat/completions", json={"model": "talker", "messages": messages, "max_tokens": 3})
    assert answer.json()["choices"][0]["message"]["content"] == "is my order"


def test_a_network_without_a_template_is_asked_otherwise(client):
    told = message(chat(client, "abc", model="letters"))
    assert "no chat template" in told
    assert "POST /v1/completions" in told


HARMLESS = {"user": "me", "metadata": {"a": "b"}, "n": 1, "frequency_penalty": 0, "store": True, "seed": -3}


def test_what_asks_for_nothing_is_accepted(client):
    pytest.importorskip("jinja2")
    more = {"tools": [], "response_format": {"type": "text"}, "logprobs": False, "stop": None, "temperature": 0.0}
    assert chat(client, "my order", **HARMLESS, **more).status_code == 200
    assert complete(client, **HARMLESS, best_of=1, echo=False, top_p=1).status_code == 200


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tools": [{"type": "function"}]}, "'tools' is not supported"),
        ({"response_format": {"type": "json_object"}}, "'response_format' is not supported"),
        ({"logprobs": True}, "'logprobs' is not supported"),
        ({"n": 2}, "'n' is not supported by this server. Only 1."),
        ({"frequency_penalty": 0.5}, "'frequency_penalty'"),
        ({"logit_bias": {"5": 3}}, "'logit_bias'"),
        ({"reasoning_effort": "high"}, "'reasoning_effort'"),
        ({"temperature": 3}, "'temperature' is 3. A number from 0 to 2"),
        ({"temperature": "hot"}, "'temperature' is a text"),
        ({"top_p": 1.5}, "'top_p' is 1.5"),
        ({"max_tokens": 0}, "'max_tokens' is 0"),
        ({"max_tokens": 5000}, "from 1 to 4096"),
        ({"max_completion_tokens": 1.5}, "'max_completion_tokens' is 1.5"),
        ({"seed": "x"}, "'seed' is a text"),
        ({"stop": [1]}, "'stop' cannot be read"),
        ({"stop": list("abcde")}, "at most 4 texts"),
        ({"stream": "yes"}, "'stream' is a text"),
        ({"stream_options": 3}, "'stream_options' is a number"),
        ({"temprature": 1}, "Did you mean 'temperature'?"),
        ({"messages": []}, "'messages' is not a conversation"),
        ({"messages": "hello"}, "'messages' is not a conversation"),
        ({"messages": ["hello"]}, "Message 1 has no role"),
        ({"messages": [{"role": "king", "content": "a"}]}, "Roles: developer"),
        ({"messages": [{"role": [], "content": "a"}]}, "Message 1 has no role"),
        ({"messages": [{"role": "user"}]}, "'content' is null"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part 'image_url'"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "'tool_calls'"),
        ({"model": "colours"}, "it does not write texts"),
        ({"model": "encoder"}, "is served to embed"),
    ],
)
def test_what_a_conversation_cannot_have(client, more, words):
    assert words in message(chat(client, "my order", **more))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"prompt": [1, 2]}, "Token numbers"),
        ({"prompt": [[1], [2]]}, "Token numbers"),
        ({"prompt": None}, "'prompt' is not a text"),
        ({"echo": True}, "'echo'"),
        ({"suffix": "x"}, "'suffix'"),
        ({"logprobs": 3}, "'logprobs'"),
        ({"best_of": 3}, "'best_of'"),
        ({"prompt": ["a", "b"], "stream": True}, "One text is streamed at a time"),
        ({"messages": []}, "no field 'messages'"),
    ],
)
def test_what_a_completion_cannot_have(client, more, words):
    assert words in message(complete(client, **more))


def test_a_prompt_that_fills_the_network_is_refused_before_the_stream_begins(client):
    for stream in (False, True):
        assert "101 tokens" in message(complete(client, prompt="a" * 100, stream=stream), 422)


def test_a_full_server_says_429_and_when_to_come_again(serving, tmp_path):
    limits = Limits(streams=1, caps=Caps(written_tokens=10**9))
    with serving({"letters": writers.letters(tmp_path)}, limits=limits) as client:
        held = {"model": "letters", "prompt": "abc", "max_tokens": 10**9, "stream": True}
        with client.stream("POST", "/v1/completions", json=held) as first:
            lines = first.iter_lines()  # held, because the stream is closed with it
            assert next(lines).startswith("data: ")
            refused = client.post("/v1/completions", json=held)
            assert "texts" in message(refused, 429)
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
        # Its client has left: there is room again.
        for _ in range(100):
            again = client.post("/v1/completions", json={**held, "max_tokens": 2})
            if again.status_code == 200:
                break
            threading.Event().wait(0.05)
        assert events(again)[-1]["choices"][0]["finish_reason"] == "length"


def test_a_recording_is_written_down(client):
    pytest.importorskip("python_multipart")
    answer = transcribe(client).json()
    assert answer == {"text": "hello", "usage": {"type": "duration", "seconds": 0.4}}
    text = transcribe(client, response_format="text")
    assert (text.text, text.headers["content-type"]) == ("hello\n", "text/plain; charset=utf-8")
    assert transcribe(client, response_format="srt").text.startswith("1\n00:00:00,000 --> ")
    assert transcribe(client, response_format="vtt").text.startswith("WEBVTT\n")
    verbose = transcribe(client, response_format="verbose_json", language="en").json()
    assert (verbose["text"], verbose["language"], verbose["duration"]) == ("hello", "en", 0.4)
    assert verbose["segments"][0]["text"] == "hello"
    assert "words" not in verbose
    timed = transcribe(client, response_format="verbose_json", **{"timestamp_granularities[]": ["word", "segment"]})
    assert [each["word"] for each in timed.json()["words"]] == ["hello"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "encoder"}, "does not write down recordings"),
        ({"response_format": "xml"}, "'verbose_json'"),
        ({"prompt": "names"}, "'prompt' is not supported"),
        ({"stream": "true"}, "The transcript comes whole"),
        ({"temperature": "0.4"}, "Only 0"),
        ({"timestamp_granularities[]": "word"}, "verbose_json alone"),
        ({"timestamp_granularities[]": "letter"}, "It is word or segment"),
        ({"chunking": "auto"}, "'chunking' is not supported"),
        ({"file": b""}, "The file is empty"),
    ],
)
def test_what_a_transcript_cannot_have(client, fields, words):
    pytest.importorskip("python_multipart")
    assert words in message(transcribe(client, **fields))


def test_a_form_that_is_none(client):
    pytest.importorskip("python_multipart")
    answer = client.post("/v1/audio/transcriptions", json={"file": "x"})
    assert "multipart/form-data" in message(answer, 415)
    two = [("file", ("a", b"x")), ("file", ("b", b"y"))]
    assert "The form has 2 files" in message(
        client.post("/v1/audio/transcriptions", files=two, data={"model": "listener"})
    )
    broken = transcribe(client, file=b"no recording")
    assert broken.status_code == 422
    assert "translated" in message(client.post("/v1/audio/translations"), 404)


def test_it_owns_its_paths():
    protocol = OpenAI()
    assert protocol.owns("/v1/embeddings") and protocol.owns("/v1/models/a") and protocol.owns("/v1/none")
    assert not any(protocol.owns(path) for path in ("/v1/models/a:predict", "/v1/models/a/metadata", "/v2", "/predict"))
