"""Small parts of the page that every section uses: numbers as text, tables, legends. Every text that came from data is escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from guie.report.collect import is_number


@dataclass(frozen=True)
class Markup:
    """A cell that is HTML already, and a class for it."""

    html: str
    style: str = ""


def score_text(value: Any) -> str:
    """A score with three digits, a dash where there is none."""
    return f"{value:.3f}" if is_number(value) else "–"


def seconds_text(value: Any) -> str:
    """Seconds as `4.2 s`, `3 min 05 s` or `1 h 02 min`."""
    if not is_number(value):
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory_text(gigabytes: Any) -> str:
    """Gigabytes with two digits, a dash where they are not known."""
    return f"{gigabytes:.2f} GB" if is_number(gigabytes) else "–"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], label: str, text: Collection[str] = (), styles: Sequence[str] = ()) -> str:
    """An HTML table in a region that scrolls sideways; the first column names the rows.

    Args:
        head: Titles of the columns.
        rows: Cells, escaped here unless they are `Markup`.
        label: What the table is, for screen readers.
        text: Titles of the columns that hold text; the others are aligned as numbers, the first one never.
        styles: A class for each row.
    """
    kinds = ["" if i == 0 or title in text else "n" for i, title in enumerate(head)]
    parts = [f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table><thead><tr>']
    parts += [f'<th scope="col" class="{kind}">{escape(title)}</th>' for title, kind in zip(head, kinds, strict=True)]
    parts.append("</tr></thead><tbody>")
    for i, row in enumerate(rows):
        parts.append(f'<tr class="{styles[i] if styles else ""}">')
        for tag, kind, cell in zip(['th scope="row"', *["td"] * (len(row) - 1)], kinds, row, strict=True):
            content = cell if isinstance(cell, Markup) else Markup(escape(str(cell)), kind)
            parts.append(f'<{tag} class="{content.style}">{content.html}</{tag[:2]}>')
        parts.append("</tr>")
    return "".join(parts) + "</tbody></table></div>"


def section(name: str, title: str, *parts: str) -> str:
    """A titled section that the navigation can reach."""
    return f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(title)}</h2>{"".join(parts)}</section>'


def note(text: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>'


def absent(text: str) -> str:
    """A paragraph that says what is not there."""
    return f'<p class="absent">{escape(text)}</p>'


def folded(title: str, content: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(title)}</summary><div>{content}</div></details>"


def figure(title: str, *content: str) -> str:
    """A chart with its caption."""
    return f"<figure><figcaption>{escape(title)}</figcaption>{''.join(content)}</figure>"


def legend(*entries: tuple[str, str]) -> str:
    """Style and meaning of each colour."""
    return '<ul class="legend">' + "".join(f'<li><i class="{style}"></i>{escape(text)}</li>' for style, text in entries) + "</ul>"


def button(key: str, value: str, text: str) -> str:
    """One choice of a filter; the one with no value is pressed at first."""
    return f'<button type="button" data-key="{key}" data-value="{value}" aria-pressed="{"false" if value else "true"}">{escape(text)}</button>'
