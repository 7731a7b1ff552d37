"""One request for a page: who asks, where they are, and whom the page asks in turn."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.web.access.principal import May, Principal
from pipeline.web.console.address import Address
from pipeline.web.console.asking import Asking


class Visitor(NamedTuple):
    """Who is shown the page. `csrf`: what a form of ours says; "" for who comes with a key."""

    who: Principal
    csrf: str

    @property
    def name(self) -> str:
        """As people know them."""
        return self.who.name.partition("/")[2] or self.who.name

    def role(self, workspace: str) -> str:
        """What they may there, in a word."""
        for may, word in ((May.ADMIN, "admin"), (May.OPERATE, "operator")):
            if self.who.may(may, workspace):
                return word
        return "viewer"


class Looking(NamedTuple):
    """A page in the making."""

    at: Address
    visitor: Visitor
    asking: Asking
    now_ms: int
    web: str  # our own address, for what people copy

    @property
    def time(self) -> dict[str, str]:
        """The range of time, as the query API asks for it."""
        return self.at.time(self.now_ms)


class Page(NamedTuple):
    """What a template is given. `fragment`: a piece of a page, without its frame."""

    template: str
    title: str
    given: Mapping[str, Any]
    status: int = 200
