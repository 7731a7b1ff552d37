"""The settings of people who sign in: sessions, and the provider that vouches for them (OpenID Connect)."""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from pipeline.config.sections import Section, web_address
from schemas.access import UserRole

SESSION_KEY_LENGTH_MIN = 32
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class PeopleSettings(Section):
    """How people sign in, and how long that lasts."""

    web_session_key: SecretStr = Field(
        SecretStr(""),
        description="signs sessions, at least 32 characters, the same for every HTTP process; "
        "default: one that each process makes for itself",
    )
    web_session_idle_minutes: int = Field(
        120, ge=1, le=10_080, description="a session that is not used ends after this"
    )
    web_session_hours_max: int = Field(12, ge=1, le=720, description="every session ends after this")
    web_once_links: bool = Field(
        False, description="take one-time links of `inferwatch users link`; for a single HTTP process only"
    )
    web_proxies: str = Field(
        "", description="balancers (CIDR, comma-separated) whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    oidc_client_id: str = Field("", description="what the provider calls us")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="its secret; empty: a public client (PKCE alone)")
    oidc_audience: str = Field("", description="audience of its ID tokens; default: oidc_client_id")
    oidc_scopes: str = Field("openid email profile", description="what the provider is asked for")
    oidc_name_claim: str = Field("email", description="claim that names a person; where it is missing: sub")
    oidc_roles_claim: str = Field("groups", description="claim that gives roles; a.b is b inside a")
    oidc_roles: str = Field(
        "", description="VALUE=WORKSPACE:ROLE, comma-separated: what a value of that claim allows; * is everywhere"
    )
    oidc_ca_file: Path | None = Field(None, description="CA certificate(s) of the provider, PEM; default: the system's")
    # The last one: it is looked at when all that it wants is known.
    oidc_issuer: str = Field("", description="address of the OpenID Connect provider; empty: none")

    @field_validator("web_session_key")
    @classmethod
    def _is_long(cls, key: SecretStr) -> SecretStr:
        if 0 < len(key.get_secret_value()) < SESSION_KEY_LENGTH_MIN:
            raise ValueError(f"a signing key has at least {SESSION_KEY_LENGTH_MIN} characters")
        return key

    @field_validator("web_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for one in filter(None, map(str.strip, text.split(","))):
            ip_network(one)  # or raises
        return text

    @field_validator("oidc_roles")
    @classmethod
    def _are_roles(cls, text: str) -> str:
        _granted(text)
        return text

    @field_validator("oidc_issuer")
    @classmethod
    def _is_issuer(cls, url: str, others: ValidationInfo) -> str:
        parts = urlsplit(web_address(url))
        if url and parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ValueError("a provider is reached by https, or on this machine")
        missing = [name for name in ("oidc_client_id", "oidc_roles", "public_url") if not others.data.get(name, "-")]
        if url and missing:
            raise ValueError(f"wants {', '.join(missing)} as well")
        return url

    @property
    def oidc_grants(self) -> Mapping[str, list[tuple[str, UserRole]]]:
        """What each value of the claim allows: workspaces and roles."""
        return _granted(self.oidc_roles)


def _granted(text: str) -> dict[str, list[tuple[str, UserRole]]]:
    found: dict[str, list[tuple[str, UserRole]]] = {}
    for one in filter(None, map(str.strip, text.split(","))):
        value, _, allowed = one.rpartition("=")
        workspace, _, role = allowed.rpartition(":")
        if not value or not workspace or role not in {known.value for known in UserRole}:
            raise ValueError(f"{one}: expected VALUE=WORKSPACE:viewer, :operator or :admin")
        found.setdefault(value, []).append((workspace, UserRole(role)))
    return found
