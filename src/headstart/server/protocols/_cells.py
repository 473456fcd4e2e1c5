"""From cells as protocols send them to rows as the model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.core.errors import RequestError
from headstart.server.queue.work import Row
from headstart.server.requests.inputs import from_base64
from headstart.server.requests.rows import Fields, is_url, kind, short

B64 = "b64"


def rows_of(columns: Mapping[str, Sequence[Any]], fields: Fields) -> list[Row]:
    """Return the rows of columns of equal length.

    Raises:
        RequestError: a column is not read by the model, or a cell cannot be used.
    """
    settled = [
        [cell_of(cell, name in fields.files, f"Row {row}: '{short(name)}'") for row, cell in enumerate(cells, start=1)]
        for name, cells in columns.items()
    ]
    return fields.rows([dict(zip(columns, record, strict=True)) for record in zip(*settled, strict=True)])


def cell_of(cell: Any, is_file: bool, where: str) -> Any:
    """Return a cell as the model reads it: a file's bytes, or a text.

    Args:
        cell: as it was sent: bytes, `{"b64": …}`, or a plain value; of a file a data: URL, a URL or base64.
        is_file: whether its column holds files.
        where: how an error calls it.

    Raises:
        RequestError: it is neither base64 nor text.
    """
    if isinstance(cell, dict) and set(cell) == {B64}:
        if not isinstance(cell[B64], str):
            raise RequestError(f"{where}: 'b64' is {kind(cell[B64])}.", status=400, allowed="It is base64.")
        cell = from_base64(cell[B64], where)
    if is_file:
        if isinstance(cell, str) and cell.strip() and not cell.startswith("data:") and not is_url(cell):
            return from_base64(cell, where)
        return cell
    if isinstance(cell, bytes):
        try:
            return cell.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(
                f"{where} is not a text: byte {error.start + 1} is not UTF-8.",
                status=400,
                allowed="This column holds texts.",
            ) from None
    return cell


def texts_of(rows: Sequence[Row], fields: Fields) -> list[str]:
    """Return what a network of texts reads of each row: its text columns, one below the other."""
    return ["\n".join(str(row[name]) for name in fields.texts if row.get(name) not in (None, "")) for row in rows]
