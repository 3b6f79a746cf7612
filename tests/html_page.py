"""Parses an HTML page for tests."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img"}


class Page(HTMLParser):
    """The parts of an HTML page that a browser would show. An AssertionError says where tags do not close in order.

    Attributes:
        elements: Tag and attributes of each element.
        texts: All texts.
        open: Tags that are not closed.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, style: str = "") -> list[dict[str, str | None]]:
        """The attributes of all elements with this tag; with `style`, only of those that have this class."""
        found = [attributes for name, attributes in self.elements if name == tag]
        return [attributes for attributes in found if not style or style in (attributes.get("class") or "").split()]
