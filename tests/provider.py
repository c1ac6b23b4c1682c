"""A site that speaks OpenID Connect: small, real, over a socket, and as wicked as a test asks."""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jws, jwt
from joserfc.jwk import KeySet, RSAKey

from tests.factories import SUNDAY_NOON

CLIENT, SECRET = "afterglow", "a secret / with + signs"
NOW = int(SUNDAY_NOON.timestamp())


@dataclass
class Provider:
    """Who is signed in there, and how it behaves."""

    url: str = ""
    subject: str = "ann-at-work"
    claims: dict[str, Any] = field(default_factory=dict)
    """Put in the place of what it would say; None leaves one out."""
    described: dict[str, Any] = field(default_factory=dict)
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    sign: Callable[["Provider", dict[str, Any]], str] | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    ways: list[str] = field(default_factory=lambda: ["client_secret_basic"])

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": self.ways,
            **self.described,
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Let its user in, and send them back with a code."""
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        told = urlencode({"code": code, "state": asked["state"], "iss": self.url})
        return f"{asked['redirect_uri']}?{told}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Change a code for a token: once, for the client and the browser that it was made for."""
        asked = self.codes.pop(form.get("code", ""), None)
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        if (
            asked is None
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
            or not self._is_client(form, authorization)
        ):
            return None
        told = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": self.subject,
            "iat": NOW,
            "exp": NOW + 300,
            "nonce": asked["nonce"],
            **self.claims,
        }
        claims = {name: value for name, value in told.items() if value is not None}
        signed = (self.sign or Provider.signed)(self, claims)
        return {"access_token": "x", "token_type": "Bearer", "id_token": signed}

    def signed(self, claims: dict[str, Any], **header: Any) -> str:
        return jwt.encode({"alg": "RS256", "kid": "one", **header}, claims, self.key)

    def keys(self) -> Any:
        return KeySet([self.key]).as_dict(private=False)

    def _is_client(self, form: dict[str, str], authorization: str) -> bool:
        if "client_secret_basic" not in self.ways:
            return (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        told = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        name, _, secret = told.partition(":")
        return (unquote(name), unquote(secret)) == (CLIENT, SECRET)


def unsigned(provider: Provider, claims: dict[str, Any]) -> str:
    """`alg: none`."""
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def confused(provider: Provider, claims: dict[str, Any]) -> str:
    """The public key of the issuer, which everybody has, taken for a shared secret."""
    public = provider.key.as_pem(private=False)
    return by_hand({"alg": "HS256", "kid": "one"}, claims, public)


def by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    told = f"{_part(header)}.{_part(claims)}"
    import hmac  # noqa: PLC0415

    mac = hmac.new(secret, told.encode(), hashlib.sha256).digest()
    return f"{told}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def strange(provider: Provider, claims: dict[str, Any]) -> str:
    """Signed by somebody else, under the issuer's name for its own key."""
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, RSAKey.generate_key(2048))


def brought(provider: Provider, claims: dict[str, Any]) -> str:
    """Signed by a key that the token brings along itself."""
    own = RSAKey.generate_key(2048, {"kid": "two"})
    header = {
        "alg": "RS256",
        "kid": "two",
        "jwk": own.as_dict(private=False),
        "jku": f"{provider.url}/evil",
    }
    registry = jws.JWSRegistry(strict_check_header=False)
    return jws.serialize_compact(header, json.dumps(claims).encode(), own, registry=registry)


def climbing(provider: Provider, claims: dict[str, Any]) -> str:
    """A name of a key that is a path."""
    return by_hand({"alg": "HS256", "kid": "../../../../dev/null"}, claims, b"")


def of_another_kind(provider: Provider, claims: dict[str, Any]) -> str:
    """An access token."""
    return provider.signed(claims, typ="at+jwt")


def _part(told: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            self._tell(self.provider.description())
        elif parts.path == "/keys":
            self._tell(self.provider.keys())
        elif parts.path == "/authorize":
            asked = {name: told[0] for name, told in parse_qs(parts.query).items()}
            self.send_response(303)
            self.send_header("Location", self.provider.authorize(asked))
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = {name: told[0] for name, told in parse_qs(body).items()}
        told = self.provider.token(form, self.headers.get("Authorization", ""))
        self._tell({"error": "invalid_grant"} if told is None else told, 400 if not told else 200)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _tell(self, told: Any, status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def provider_site() -> Iterator[Provider]:
    """Run one."""
    made = Provider()
    handler = type("_Own", (_Handler,), {"provider": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
