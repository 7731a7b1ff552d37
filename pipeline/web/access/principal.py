"""Who asks, and what they may: the one place that decides it. Pure.

Nobody may anything in a workspace that no grant of theirs names; "*" names every one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from schemas.access import EVERY_WORKSPACE, ApiKey, Scope, User, UserRole


class May(Enum):
    """Something that an endpoint lets one do."""

    INGEST = "ingest"
    QUERY = "query"
    OPERATE = "operate"  # acknowledge, silence, mark
    ADMIN = "admin"


_OF_SCOPE: Mapping[Scope, frozenset[May]] = {
    Scope.INGEST: frozenset({May.INGEST}),
    Scope.QUERY: frozenset({May.QUERY}),
    Scope.ADMIN: frozenset(May),
}
_OF_ROLE: Mapping[UserRole, frozenset[May]] = {
    UserRole.VIEWER: frozenset({May.QUERY}),
    UserRole.OPERATOR: frozenset({May.QUERY, May.OPERATE}),
    UserRole.ADMIN: frozenset(May),
}
_NOTHING: frozenset[May] = frozenset()

Grants = Mapping[str, Sequence[tuple[str, UserRole]]]  # a claim's value: workspaces, or "*", and the role there
NO_GRANTS: Grants = {}


@dataclass(frozen=True, slots=True)
class Principal:
    """A key or a person. `name` is for logs and limits: it holds no secret."""

    name: str
    grants: Mapping[str, frozenset[May]]  # by workspace, or "*"

    def may(self, what: May, workspace: str) -> bool:
        """In this workspace? `"*"` asks whether in every one."""
        return what in self.grants.get(workspace, _NOTHING) or what in self.grants.get(EVERY_WORKSPACE, _NOTHING)

    @property
    def workspace(self) -> str | None:
        """The only one in which they may anything; None: there is not one."""
        return next(iter(self.grants)) if len(self.grants) == 1 and EVERY_WORKSPACE not in self.grants else None


def of_key(key: ApiKey) -> Principal:
    """The bearer of a key."""
    return Principal(f"key/{key.id}", {key.workspace: frozenset().union(*(_OF_SCOPE[scope] for scope in key.scopes))})


def of_user(user: User) -> Principal:
    """A person that has logged in."""
    return Principal(f"user/{user.name}", {workspace: _OF_ROLE[role] for workspace, role in user.roles.items()})


def of_claims(name: str, claims: Iterable[str], grants: Grants) -> Principal:
    """A person whom a provider vouches for: what is granted to each of the claim's values, all together."""
    allowed: dict[str, frozenset[May]] = {}
    for claim in claims:
        for workspace, role in grants.get(claim, ()):
            allowed[workspace] = allowed.get(workspace, _NOTHING) | _OF_ROLE[role]
    return Principal(f"oidc/{name}", allowed)


EVERYTHING: Mapping[str, frozenset[May]] = {EVERY_WORKSPACE: frozenset(May)}
