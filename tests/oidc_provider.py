"""An OpenID Connect provider as a process of its own, by authlib's provider side in Flask: no flow is only played.

    python -m tests.oidc_provider PORT

Whoever comes is signed in at once. What `login_hint` would be at a real login form, the client cannot send: so the next
person, and what is wrong with the provider's answer to them, is told by POST /next {"user": {...}, "lie": "..."}.
"""

import base64
import hmac
import json
import sys
from typing import Any

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from pipeline.edge.clock import now_ms

CLIENT_ID, CLIENT_SECRET, REDIRECT = "inferwatch", "a secret of both", "http://watch.example/session/oidc/callback"
RSA = RSAKey.generate_key(2048, {"kid": "1", "alg": "RS256"})
KEYS = KeySet([RSA, ECKey.generate_key("P-256", {"kid": "2", "alg": "ES256"})])
STRANGER = RSAKey.generate_key(2048, {"kid": "1"})
codes: dict[str, Any] = {}
told: dict[str, Any] = {"user": {"sub": "1"}, "lie": ""}


class Client:
    """The one that is registered."""

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return REDIRECT

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, uri: str) -> bool:
        return uri == REDIRECT

    def check_client_secret(self, secret: str) -> bool:
        return secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


class Code:
    """What a browser carries to the client."""

    def __init__(self, code: str, payload: Any, user: Any) -> None:
        self.code, self.user = code, user
        self.nonce = payload.data.get("nonce")
        self.scope = payload.scope
        self.code_challenge = payload.data.get("code_challenge")
        self.code_challenge_method = payload.data.get("code_challenge_method")

    def get_redirect_uri(self) -> str:
        return REDIRECT

    def get_scope(self) -> str:
        return str(self.scope)

    def get_nonce(self) -> Any:
        return self.nonce

    def get_auth_time(self) -> int:
        return now_ms() // 1000

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


class ByCode(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """Codes are good once."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

    def save_authorization_code(self, code: str, request: Any) -> None:
        codes[code] = Code(code, request.payload, request.user)

    def query_authorization_code(self, code: str, client: Client) -> Any:
        return codes.get(code)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> Any:
        return authorization_code.user


class Vouching(OpenIDCode):  # type: ignore[misc]
    """ID tokens, as the next lie wants them."""

    def exists_nonce(self, nonce: str, request: Any) -> bool:
        return any(code.nonce == nonce for code in codes.values())

    def encode_id_token(self, token: dict[str, Any], request: Any) -> str:
        user, lie = request.user, told["lie"]
        now = now_ms() // 1000
        claims: dict[str, Any] = {
            "iss": issuer(),
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            **self.get_authorization_code_claims(request.authorization_code),
            **user,
        }
        wrong: dict[str, dict[str, Any]] = {
            "nonce": {"nonce": "another"},
            "audience": {"aud": "another"},
            "two audiences": {"aud": [CLIENT_ID, "another"]},
            "issuer": {"iss": issuer() + "/"},
            "expired": {"iat": now - 1000, "exp": now - 500},
            "not yet": {"nbf": now + 500},
            "no expiry": {"exp": None},
            "other token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        }
        claims |= wrong.get(lie, {})
        claims = {name: value for name, value in claims.items() if value is not None}
        if lie == "no nonce":
            del claims["nonce"]
        if lie == "none":
            return jwt.encode({"alg": "none"}, claims, OctKey.import_key("x"), algorithms=["none"])
        if lie == "public key as secret":
            return signed_by_hand(claims, RSA.as_pem(private=False))  # no library makes it
        if lie == "stranger":
            return jwt.encode({"alg": "RS256", "kid": "1"}, claims, STRANGER)
        if lie == "unsigned":
            return jwt.encode({"alg": "RS256", "kid": "1"}, claims, KEYS).rpartition(".")[0] + "."
        alg, kid = ("ES256", "2") if lie == "elliptic" else ("RS256", "1")
        return jwt.encode({"alg": alg, "kid": kid}, claims, KEYS, registry=JWSRegistry(algorithms=[alg]))


def signed_by_hand(claims: dict[str, Any], secret: bytes) -> str:
    """HS256."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "1"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")
    return (text + b"." + signature).decode()


app = flask.Flask(__name__)
server = AuthorizationServer(
    app, query_client=lambda client_id: Client() if client_id == CLIENT_ID else None, save_token=lambda *_: None
)
server.register_grant(ByCode, [Vouching(require_nonce=True), CodeChallenge(required=True)])


def issuer() -> str:
    """Our own address."""
    return flask.request.host_url.rstrip("/")


@app.get("/.well-known/openid-configuration")
def configuration() -> dict[str, Any]:
    """What we are."""
    return {
        "issuer": issuer() + ("/elsewhere" if told["lie"] == "discovery" else ""),
        "authorization_endpoint": issuer() + "/authorize",
        "token_endpoint": issuer() + "/token",
        "jwks_uri": issuer() + "/keys",
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }


@app.get("/keys")
def keys() -> Any:
    """What our tokens are checked by."""
    return KEYS.as_dict(private=False)


@app.get("/authorize")
def authorize() -> Any:
    """Signs in whoever is next."""
    grant = server.get_consent_grant(end_user=told["user"])
    return server.create_authorization_response(grant=grant, grant_user=None if told["lie"] == "no" else told["user"])


@app.post("/token")
def token() -> Any:
    """Codes become tokens."""
    return server.create_token_response()


@app.post("/next")
def next_() -> dict[str, Any]:
    """Who comes next."""
    told.update({"lie": ""} | (flask.request.json or {}))
    return {}


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
