"""Tokens become text piece by piece: whole characters, exact stops. No network is needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.pipelines._pieces import Pieces
from headstart.pipelines._symbols import Symbols
from headstart.pipelines._text import best_seen, encode, windows
from tests.unit.pipelines import toys


def letters(ids):
    return "".join(map(chr, ids))


def as_bytes(ids):
    return bytes(ids).decode("utf-8", errors="replace")


@given(
    st.text(st.sampled_from("ab\n"), max_size=40), st.lists(st.text(st.sampled_from("ab\n"), min_size=1, max_size=4))
)
def test_the_text_ends_before_the_first_stop_word(text, stops):
    pieces = Pieces(letters, stops)
    shown = [pieces.add(ord(each)) for each in text]
    found = "".join([*shown, pieces.end()])
    # A stop counts once it is whole: the earliest one to be whole ends the text.
    ends = [text.find(each) + len(each) for each in stops if each in text]
    seen = text[: min(ends)] if ends else text
    starts = [seen.find(each) for each in stops if each in seen]
    assert found == (seen[: min(starts)] if starts else seen)
    assert pieces.stopped == bool(ends)


@given(st.text(max_size=30))
def test_no_piece_holds_part_of_a_character(text):
    pieces = Pieces(as_bytes)
    shown = [pieces.add(each) for each in text.encode("utf-8", "replace")]
    assert "".join([*shown, pieces.end()]) == text.encode("utf-8", "replace").decode()


def test_broken_bytes_are_written_in_the_end():
    pieces = Pieces(as_bytes)
    assert [pieces.add(each) for each in b"a\xf0\x9f"] == ["a", "", ""]
    assert pieces.end() == as_bytes(b"\xf0\x9f")


def test_what_may_begin_a_stop_word_is_held_back():
    pieces = Pieces(letters, ["\nUser:"])
    assert [pieces.add(ord(each)) for each in "hi\nUs!"] == ["h", "i", "", "", "", "\nUs!"]


def test_symbols_are_characters_or_words():
    by_character = Symbols({"<s>": 3, "a": 1, "b": 2}, by_word=False)
    assert by_character.tokens("ab?", whole=False) == [3, 1, 2, 0] and by_character.text([1, 3, 2, 0]) == "ab"
    by_word = Symbols({"<s>": 4, "the": 1, "king": 2, ".": 3}, by_word=True)
    assert by_word.tokens("the king.", whole=True) == [1, 2, 3] and by_word.text([1, 2, 3]) == " the king."


@pytest.mark.parametrize("overlap", [0, 5, 12])
def test_windows_cover_every_token_once_at_its_best_place(tmp_path, overlap):
    from tokenizers import Tokenizer

    toys.wordpiece(tmp_path)
    whole = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    cut = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    cut.enable_truncation(32, stride=overlap)
    for text in (toys.LONG, "short", ""):
        ids = whole.encode(text, add_special_tokens=False).ids
        parts = windows(encode(cut, [text])[0], overlap)
        seen = best_seen(parts)
        assert [parts[window].encoding.ids[place] for window, place in seen] == ids
        for at, (_, place) in enumerate(seen[:-31]):
            assert at < 28 or min(place, 31 - place) >= overlap // 2
