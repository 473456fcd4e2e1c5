"""From a request's JSON to the rows that the model reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import orjson

from headstart.core.dataset import is_blank
from headstart.core.errors import RequestError, listed, nearest
from headstart.runtime import Runtime
from headstart.server.queue.work import Row

ALIAS = "text"
"""What the main text column may also be called."""
KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
LONGEST_NAME = 60
"""Characters of a client's own words that an error repeats."""
BOM = b"\xef\xbb\xbf"


def read_json(body: bytes) -> Any:
    """Read a body as JSON, whatever its content type says; NaN, Infinity and lone surrogates are not JSON.

    Raises:
        RequestError: it is not JSON (status 400).
    """
    body = body.removeprefix(BOM)
    if not body.strip():
        raise RequestError("The request has no body.", status=400, allowed="A JSON document is expected.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"The body is not JSON: {error}.", status=400, allowed="A JSON document in UTF-8 is expected."
        ) from None


def kind(value: Any) -> str:
    """Return what a JSON value is, in words."""
    return KINDS.get(type(value), "a number")


def is_url(cell: object) -> bool:
    """Return whether a cell is the URL of a file elsewhere."""
    return isinstance(cell, str) and cell[:8].casefold().startswith(("http://", "https://"))


def short(name: str) -> str:
    """Return a client's own word, cut to what an error may repeat."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def check_known(names: Iterable[str], known: Sequence[str], what: str = "field") -> None:
    """Raise RequestError for a field (or whatever `what` calls it) of a request that its protocol does not have."""
    for name in names:
        if name not in known:
            raise RequestError(
                f"There is no {what} '{short(name)}'.",
                status=400,
                allowed=f"{what.capitalize()}s: {listed(known, 30)}.",
                hint=nearest(short(name), known),
            )


@final
@dataclass(frozen=True)
class Fields:
    """The fields that a row of this model may have.

    Args:
        columns: their names, in order.
        texts: those of them that hold free text.
        main: the column that a bare text stands for.
        files: those of them that hold files, sent as data: URLs.
    """

    columns: tuple[str, ...]
    texts: tuple[str, ...]
    main: str
    files: tuple[str, ...] = ()

    @staticmethod
    def of(runtime: Runtime) -> Fields:
        """Return the fields of an opened model."""
        read = [each for each in runtime.inputs if each.pretrained and not each.files]
        texts = tuple(name for modality in read for name in modality.columns)
        return Fields(tuple(runtime.columns), texts, runtime.main_column, tuple(runtime.file_columns))

    @property
    def alias(self) -> str:
        """Another name for the main column of a model that reads text, or empty."""
        return ALIAS if self.texts and ALIAS not in self.columns else ""

    def rows(self, values: Sequence[Any]) -> list[Row]:
        """Return several rows, each an object or a bare text.

        Raises:
            RequestError: one of them cannot be used; the sentence names its number.
        """
        return [self.row(value, f"Row {number}") for number, value in enumerate(values, start=1)]

    def row(self, value: Any, where: str = "The row") -> Row:
        """Return one row.

        Args:
            value: an object of fields, or a bare text for the main column.
            where: how an error calls the row.

        Raises:
            RequestError: it is neither, a field is not known, not a plain value, given twice, or a file's name, or all
                are blank.
        """
        if isinstance(value, str):
            value = {self.main: value}
        elif not isinstance(value, dict):
            raise RequestError(
                f"{where} is {kind(value)}.",
                allowed=f"A row is an object with the fields {listed(self.columns)}, or a text.",
            )
        row: Row = {}
        filled = False
        for name, cell in value.items():
            if isinstance(cell, (dict, list)):
                raise RequestError(
                    f"{where}: the field '{short(name)}' is {kind(cell)}.",
                    allowed="A field is a text, a number, true, false or null.",
                )
            column = self._column(name, where)
            if column in row:
                raise RequestError(f"{where} gives '{column}' twice: '{self.alias}' is another name for it.")
            if column in self.files:
                self._check_file(cell, f"{where}: the field '{short(name)}'")
            row[column] = cell
            filled = filled or not is_blank(cell)
        if not filled:
            raise RequestError(f"{where} is blank.", allowed=f"At least one field is needed: {listed(self.columns)}.")
        return row

    def _check_file(self, cell: Any, where: str) -> None:
        # A path would be one on the server, whose files are not the caller's to read.
        if is_blank(cell) or isinstance(cell, bytes) or (isinstance(cell, str) and cell.startswith("data:")):
            return
        if is_url(cell):
            # Whether its host may be asked is decided where it is fetched.
            return
        shown = f"'{short(cell)}'" if isinstance(cell, str) else kind(cell)
        raise RequestError(
            f"{where} is {shown}.",
            allowed="A file is sent as its content, in a data: URL such as data:image/jpeg;base64,…",
            hint="Paths are not opened by the server.",
        )

    def _column(self, name: str, where: str) -> str:
        if name in self.columns:
            return name
        if name == ALIAS and self.alias:
            return self.main
        raise RequestError(
            f"{where} has a field '{short(name)}', which this model does not read.",
            allowed=f"Fields: {listed(self.columns)}.",
            hint=nearest(short(name), self.columns),
        )
