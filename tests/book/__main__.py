"""Writes all of the guide that is made of the source: the reference, the words, quotations and what programs print."""

from __future__ import annotations

from tests.book import dictionary, quotes, reference

if __name__ == "__main__":
    reference.PAGE.write_text(reference.reference(), encoding="utf-8")
    dictionary.write()
    quotes.write()
