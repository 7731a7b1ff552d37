"""A provider that vouches for people: OpenID Connect, authorization code with PKCE, by authlib.

What begins a sign-in is kept by the browser alone, signed; nonce and verifier come from its state and our secret.
Only asymmetric signatures count: `none` is none, and with HS256 a provider's public key would sign.
"""

import secrets
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from pipeline.config import ConfigError, Settings
from pipeline.web.access.sessions import Seal
from pipeline.web.asgi import Refused

log = structlog.get_logger()

SIGN_IN_MS = 10 * 60_000  # from our page to the provider's and back
DISCOVERED_MS = 3_600_000  # so long we believe what the provider said of itself
TIMEOUT_S, LEEWAY_S = 10.0, 60
NAME_LENGTH_MAX, CLAIMS_MAX = 256, 1000
SIGNATURES = [f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)] + ["EdDSA", "Ed25519"]


class Flow(msgspec.Struct, frozen=True):
    """A sign-in that has begun: what its browser keeps."""

    state: str
    go_to: str  # where it wanted to be
    until_ms: int


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom the provider has named, and the values of the claim that gives roles."""

    name: str
    claims: Sequence[str]


class Provider:
    """One provider."""

    def __init__(self, settings: Settings, callback: str) -> None:
        """`callback`: where browsers come back to, a path of ours."""
        self._settings, self._back = settings, settings.public_url + callback
        self._seal = Seal(settings.web_session_key.get_secret_value(), "oidc")
        self._said: dict[str, Any] = {}
        self._said_ms = 0
        try:
            self._tls = ssl.create_default_context(cafile=settings.oidc_ca_file)
        except OSError as error:
            raise ConfigError(f"INFERWATCH_OIDC_CA_FILE: {error}") from error

    async def begin(self, go_to: str, now_ms: int) -> tuple[str, str]:
        """Where the browser goes, and what it keeps. Raises ProviderError."""
        state = secrets.token_urlsafe(24)
        try:
            async with self._client() as client:
                said = await self._discovered(client, now_ms)
                url, _ = client.create_authorization_url(
                    said["authorization_endpoint"],
                    state=state,
                    nonce=self._derived("nonce", state),
                    code_verifier=self._derived("verifier", state),
                )
        except (httpx2.HTTPError, AuthlibBaseError, ValueError, KeyError, TypeError) as error:
            log.warning("oidc_failed", error=repr(error))
            raise Refused(502, "provider_failed", "the provider does not answer as it should") from None
        return url, self._seal.seal(Flow(state, go_to, now_ms + SIGN_IN_MS))

    def flow(self, kept: str, state: str, now_ms: int) -> Flow | None:
        """The sign-in that this browser has begun; None: it has begun none of this state."""
        found = self._seal.open(kept, Flow) if kept else None
        return found if found is not None and found.state == state and now_ms < found.until_ms else None

    async def finish(self, flow: Flow, code: str, now_ms: int) -> Vouched:
        """Who it is. Raises Refused (401)."""
        try:
            async with self._client() as client:
                said = await self._discovered(client, now_ms)
                token = await client.fetch_token(
                    said["token_endpoint"], code=code, code_verifier=self._derived("verifier", flow.state)
                )
                keys = await _asked(client, said["jwks_uri"])
            return self._vouched(self._claims(token, keys, said, flow.state, now_ms))
        except (httpx2.HTTPError, AuthlibBaseError, JoseError, ValueError, KeyError, TypeError) as error:
            log.warning("oidc_failed", error=repr(error))
            raise Refused(401, "not_vouched", "what the provider says of you cannot be believed; see our log") from None

    def _claims(
        self, token: Mapping[str, Any], keys: Mapping[str, Any], said: Mapping[str, Any], state: str, now_ms: int
    ) -> Mapping[str, Any]:
        settings = self._settings
        offered = said.get("id_token_signing_alg_values_supported", ["RS256"])
        registry = JWSRegistry(algorithms=[one for one in SIGNATURES if one in offered], strict_check_header=False)
        decoded = jwt.decode(token["id_token"], KeySet.import_key_set(keys), registry=registry)  # type: ignore[arg-type]
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            {
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_audience or settings.oidc_client_id},
            },
            {
                "nonce": self._derived("nonce", state),
                "client_id": settings.oidc_client_id,
                "access_token": token.get("access_token"),
            },
        )
        claims.validate(now=now_ms // 1000, leeway=LEEWAY_S)
        return dict(claims)

    def _vouched(self, claims: Mapping[str, Any]) -> Vouched:
        name_claim = self._settings.oidc_name_claim
        name = claims.get(name_claim)
        if name_claim == "email" and claims.get("email_verified") is False:
            name = None  # anybody may have written it
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH_MAX:
            name = str(claims["sub"])[:NAME_LENGTH_MAX]
        given = _inside(claims, self._settings.oidc_roles_claim)
        values = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        return Vouched(name, [one for one in values[:CLAIMS_MAX] if isinstance(one, str)])

    async def _discovered(self, client: AsyncOAuth2Client, now_ms: int) -> Mapping[str, Any]:
        if not self._said or now_ms - self._said_ms > DISCOVERED_MS:
            issuer = self._settings.oidc_issuer
            said = await _asked(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if said.get("issuer") != issuer:
                raise ValueError(f"the provider says that it is {said.get('issuer')!r}, and not {issuer!r}")
            self._said, self._said_ms = said, now_ms
        return self._said

    def _client(self) -> AsyncOAuth2Client:
        settings = self._settings
        secret = settings.oidc_client_secret.get_secret_value()
        offered = self._said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        method = "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"
        return AsyncOAuth2Client(
            client_id=settings.oidc_client_id,
            client_secret=secret or None,
            token_endpoint_auth_method=method if secret else "none",
            scope=settings.oidc_scopes,
            redirect_uri=self._back,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            verify=self._tls,
        )

    def _derived(self, what: str, state: str) -> str:
        return self._seal.sign(f"{what} {state}".encode()).hex()


async def _asked(client: AsyncOAuth2Client, url: str) -> dict[str, Any]:
    response = await client.request("GET", url, withhold_token=True)
    response.raise_for_status()
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} answers something else than an object")
    return found


def _inside(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, whatever is in it; else the name is a way in."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for one in path.split("."):
        found = found.get(one) if isinstance(found, Mapping) else None
    return found
