"""What a page says, and what it is made of."""

from html.parser import HTMLParser

__all__ = ["PageText", "words"]


class PageText(HTMLParser):
    """The text of a page and the tags it is made of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += "" if tag in {"bdi", "wbr"} else " "
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def words(html: str) -> str:
    """A page's text with every blank run as one space."""
    return " ".join(PageText(html).text.split())
