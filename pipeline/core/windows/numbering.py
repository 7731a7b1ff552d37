"""Numbers for texts that recur, so that arrays can hold them."""

from typing import Generic, TypeVar

Text = TypeVar("Text")


class Numbering(dict[Text, int], Generic[Text]):
    """`numbering[text]` is the text's number, in the order of first use; `texts[number]` leads back."""

    def __init__(self) -> None:
        """Nothing has a number."""
        super().__init__()
        self.texts: list[Text] = []

    def __missing__(self, text: Text) -> int:
        self[text] = number = len(self.texts)
        self.texts.append(text)
        return number
