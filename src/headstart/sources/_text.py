"""Bytes to text: which encoding a file has, and where it is broken (no source itself)."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, final

from headstart.core.errors import DataError, UsageError
from headstart.core.source import ReadOptions
from headstart.sources._files import existing, open_bytes, reading

HEAD = 1 << 20
"""Bytes that the encoding is judged by."""
SAMPLE = 1 << 18
"""Characters that the layout is judged by."""

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MAGIC = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PAR1\x15", "a Parquet file"),
    (b"ARROW1\x00", "an Arrow file"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"\x1f\x8b\x08", "a gzip file"),
    (b"BZh91AY", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel or Word document"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"\x7fELF", "a program"),
    (b"\x93NUMPY", "a NumPy array"),
)
RENAME = {
    "a Parquet file": "Rename it to end in .parquet.",
    "an Arrow file": "Rename it to end in .arrow.",
    "a gzip file": "Rename it to end in .gz, as in .csv.gz.",
    "an Excel workbook": "Save it as 'CSV UTF-8' from the spreadsheet program.",
    "an old Excel or Word document": "Save it as 'CSV UTF-8' from the spreadsheet program.",
    "a SQLite database": "Read a table of it as sqlite:///FILE::TABLE.",
}
LATIN = ("cp1252", "cp1250", "cp1254")
ONE_BYTE = (*LATIN, "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256")
PAGES = [*ONE_BYTE, "cp932", "gb18030", "big5", "cp949"]
HIGH_RUN = re.compile(rb"[\x80-\xff]+")
UTF8_RUN = re.compile(rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})+")
KANA = re.compile("[\u3041-\u30ff]")
DAMAGE = re.compile("[ÿ×÷¬¦¤¯\ufffd]|(?<![A-Za-z])[þÞðÐ]|[þÞðÐ](?![A-Za-z])|[ÃÂâ](?![^\\W\\d_])")
"""What stray bytes and cut UTF-8 sequences look like when read as cp1252; people hardly write it."""
UNWESTERN = frozenset("³¹²¼½¾¯þÞðÐýÝšŠžŽì¿")
"""What the commonest letters of Central European and Turkish pages become when read as cp1252."""


@final
@dataclass(frozen=True)
class TextFile:
    """A file whose encoding is known.

    Args:
        path: where it is.
        encoding: the codec's name.
        guessed: whether the encoding was guessed from the letters' shapes and may be wrong.
        sample: the first characters, at most `SAMPLE`.
        whole: whether `sample` is all there is.
    """

    path: Path
    encoding: str
    guessed: bool
    sample: str
    whole: bool

    @staticmethod
    def find(reference: Any, options: ReadOptions) -> TextFile:
        """Find out the encoding of a file.

        Raises:
            DataError: it is missing, cannot be read, is not text, or is broken UTF-8.
            UsageError: the encoding asked for does not exist.
        """
        path = existing(reference)
        with reading(path), open_bytes(path) as file:
            head = file.read(HEAD)
            whole = len(head) < HEAD or not file.read(1)
        given = _known(options.encoding)
        refuse_binary(path, head, given)
        encoding, guessed = _encoding(path, head, whole, given)
        text = codecs.getincrementaldecoder(encoding)("replace").decode(head, final=whole)
        return TextFile(path, encoding, guessed, text[:SAMPLE], whole and len(text) <= SAMPLE)

    @contextlib.contextmanager
    def open(self, newline: str | None) -> Iterator[TextIO]:
        """Open the file as text; `newline` as for the built-in `open`.

        Raises:
            DataError: a line is broken; its number is told.
        """
        with reading(self.path):
            try:
                with io.TextIOWrapper(open_bytes(self.path), encoding=self.encoding, newline=newline) as text:
                    yield text
            except UnicodeError:
                raise broken(self.path, self.encoding) from None

    def note(self) -> str:
        """Return the encoding, and what to do if it was guessed wrongly."""
        return f"{self.encoding} (guessed; pass --encoding if letters look wrong)" if self.guessed else self.encoding


def _known(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        b"a".decode(encoding)
    except (LookupError, ValueError) as error:
        if not isinstance(error, UnicodeDecodeError):
            raise UsageError(
                f"There is no text encoding '{encoding}'.",
                allowed="Common ones: utf-8, cp1252, latin-1, utf-16, cp1251, shift_jis, gb18030.",
            ) from None
    return codecs.lookup(encoding).name


def refuse_binary(path: Path, head: bytes, given: str | None) -> None:
    """Raise DataError if the first bytes of a file are not those of a text."""
    wide = (given or "").startswith(("utf-16", "utf-32")) or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    found = next((name for magic, name in MAGIC if head.startswith(magic)), "")
    if found == "a ZIP archive" and (b"[Content_Types].xml" in head or b"xl/" in head):
        found = "an Excel workbook"
    elif head[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        found = "an HTML page"
    elif not found and not wide and b"\x00" in head and (head.count(0) * 20 > len(head) or not _is_utf8(head)):
        found = "a binary file"
    if found:
        raise DataError(
            f"'{path}' looks like {found}, not text.",
            allowed="Text files are read in any encoding; UTF-16 without a mark needs --encoding utf-16.",
            hint=RENAME.get(found, ""),
        )


def _encoding(path: Path, head: bytes, whole: bool, given: str | None) -> tuple[str, bool]:
    """Return the encoding and whether it is a guess."""
    marked = next((name for bom, name in BOMS if head.startswith(bom)), None)
    if given:
        return ("utf-8-sig" if given == "utf-8" and marked == "utf-8-sig" else given), False
    if marked:
        return marked, False
    if _is_utf8(head, whole):
        return "utf-8", False
    runs = HIGH_RUN.findall(head)
    proper = sum(UTF8_RUN.fullmatch(run) is not None for run in runs)
    # In other encodings a run of high bytes is next to never proper UTF-8 from end to end.
    if proper * 10 >= len(runs) - proper:
        raise broken(path, "utf-8")
    lines = b"\n".join(line for line in head.splitlines() if HIGH_RUN.search(line))[: 1 << 16]
    western = lines.decode("cp1252", "replace")
    if len(DAMAGE.findall(western)) * 2 >= sum(letter > "\x7f" for letter in western):
        raise broken(path, "utf-8")
    return _guess(path, lines), True


def _is_utf8(head: bytes, whole: bool = False) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _guess(path: Path, lines: bytes) -> str:
    """Return the likeliest encoding of lines that are not UTF-8."""
    from charset_normalizer import from_bytes  # 30 ms that only such files should pay

    high = lines.decode("cp932", "ignore")
    if len(KANA.findall(high)) > 0.3 * sum(letter > "\x7f" for letter in high):
        return "cp932"
    best = from_bytes(lines, cp_isolation=PAGES).best()
    found = best.encoding if best else None
    runs = HIGH_RUN.findall(lines)
    if found not in ONE_BYTE and sum(map(len, runs)) < max(6, 1.7 * len(runs)):
        found = None  # single letters among ASCII are no Chinese
    # Among the Latin pages it prefers the first in the alphabet; Western Europe is the likelier.
    if found is None or found in LATIN:
        letters = [letter for letter in lines.decode("cp1252", "replace") if letter > "\x7f"]
        if sum(letter in UNWESTERN or letter == "\ufffd" for letter in letters) <= 0.2 * len(letters):
            return "cp1252"
    if found is None:
        raise DataError(
            f"'{path}' is not text in any encoding that was tried.",
            allowed="UTF-8 is best.",
            hint="Say which it is, for example --encoding cp1252.",
        )
    return found


def broken(path: Path, encoding: str) -> DataError:
    """Return the error that says in which line a file cannot be decoded; reads it again up to there."""
    line, byte, before = _break(path, encoding)
    what = "broken UTF-8" if encoding.startswith("utf-8") else f"bytes that are not {encoding}"
    where = f" after '{before}'" if before else ""
    return DataError(
        f"Line {line} of '{path}' holds {what}: the byte 0x{byte:02X}{where}.",
        allowed="A text file must have one encoding throughout; UTF-8 is best.",
        hint="Repair that line, or name the encoding, for example --encoding cp1252.",
    )


def _break(path: Path, encoding: str) -> tuple[int, int, str]:
    """Return the line, the byte and the few characters before the first place that cannot be decoded."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line, tail = 1, ""
    with reading(path), open_bytes(path) as file:
        while True:
            block = file.read(1 << 16)
            state = decoder.getstate()
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as whole_block:
                decoder.setstate(state)
                for each in range(len(block)):
                    try:
                        text = decoder.decode(block[each : each + 1])
                    except UnicodeDecodeError as error:
                        return line, error.object[error.start], tail.rpartition("\n")[2][-20:]
                    line, tail = line + text.count("\n"), (tail + text)[-40:]
                return line, whole_block.object[whole_block.start], tail.rpartition("\n")[2][-20:]
            line, tail = line + text.count("\n"), (tail + text)[-40:]
            if not block:
                return line, 0, ""
