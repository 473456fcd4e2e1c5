"""Build HTML in which every text is escaped unless it is markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import final

from headstart.stages.report.wording import MISSING, visible

_VOID = {"meta", "link", "br"}


@final
class Markup(str):
    """A text that is HTML already and is not escaped again; only `element` and `joined` make one of data."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """Return markup as it is, and anything else as text that no browser reads as markup."""
    return value if isinstance(value, Markup) else Markup(html.escape(visible(value), quote=True))


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Return parts one after the other, each escaped unless it is markup."""
    return Markup(escaped(between).join(escaped(each) for each in parts))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return an element with escaped children and attributes.

    Args:
        tag: the element's name.
        children: markup, or texts to escape; None is nothing.
        attributes: `class_` is written `class`, `aria_label` is written `aria-label`; True is a bare attribute,
            None and False leave it out.

    >>> element("b", "<script>", title='"', class_="name")
    '<b title="&quot;" class="name">&lt;script&gt;</b>'
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    return Markup(f"<{tag}{written}>" if tag in _VOID else f"<{tag}{written}>{joined(children)}</{tag}>")


def _attribute(name: str, value: object) -> str:
    key = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {key}"
    shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
    return f' {key}="{escaped(shown)}"'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]], *, texts: int = 1) -> Markup:
    """Return a table in a box that scrolls sideways where the screen is narrow.

    Args:
        caption: one sentence.
        heads: the columns' names.
        rows: cells, of which the first names its row; an empty cell shows a dash.
        texts: how many columns from the left hold text; the others hold figures, aligned to the right.
    """
    kinds = [None if place < texts else "n" for place in range(len(heads))]
    head = [element("th", name, scope="col", class_=kind) for name, kind in zip(heads, kinds, strict=True)]
    body = []
    for first, *others in rows:
        cells = [element("td", cell or MISSING, class_=kind) for cell, kind in zip(others, kinds[1:], strict=True)]
        body.append(element("tr", element("th", first, scope="row"), *cells))
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return element("div", made, class_="scroll", role="region", aria_label=caption, tabindex="0")


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Return names with their values as a description list; those without a value are left out."""
    kept = [(name, value) for name, value in pairs if value]
    return (
        element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in kept))
        if kept
        else Markup()
    )


def folded(summary: str, inside: object, *, when: bool) -> Markup:
    """Return what is inside, folded away under a summary where `when` says so."""
    return element("details", element("summary", summary), inside) if when else escaped(inside)


def bullets(lines: Iterable[object], class_: str | None = None) -> Markup:
    """Return lines as a list, or nothing where there are none."""
    items = [element("li", line) for line in lines]
    return element("ul", *items, class_=class_) if items else Markup()


def figure(caption: str, drawing: Markup, note: object = "") -> Markup:
    """Return a drawing with its heading and a note below it."""
    below = element("figcaption", element("b", caption), " " if note else "", note)
    return element("figure", drawing, below)
