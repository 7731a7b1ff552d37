"""A line of the filter language, read from left to right."""

import re


class NotUnderstoodError(Exception):
    """Why the term at hand cannot be understood."""


class LineReader:
    """A text, and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip_blanks(self) -> bool:
        """Whether anything follows."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at < len(self.text)

    def skip_word(self) -> None:
        """To the next blank: where the next term may begin."""
        while self.at < len(self.text) and not self.text[self.at].isspace():
            self.at += 1

    def take(self, literal: str) -> bool:
        """Whether this follows; then it is read."""
        if not self.text.startswith(literal, self.at):
            return False
        self.at += len(literal)
        return True

    def match(self, pattern: re.Pattern[str]) -> str:
        """What of this kind follows; maybe nothing."""
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found.group() if found else ""

    def quoted(self) -> str:
        """The text up to the closing quote."""
        out: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == '"':
                return "".join(out)
            if char == "\\" and self.at < len(self.text):
                char = self.text[self.at]
                self.at += 1
            out.append(char)
        raise NotUnderstoodError("the closing quote is missing")

    @property
    def ends(self) -> bool:
        """Whether a term may end here."""
        return self.at == len(self.text) or self.text[self.at].isspace()
