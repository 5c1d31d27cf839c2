"""A stand-in for an issuer of SciTokens that the dev pool believes: a web server with its public key.

Whoever has the private key, as the tests do, signs what a real one would sign for those who have logged in there.
"""

import json
import time
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from local import certificates
from local.authority import SERVER, Leaf, elliptic, pem
from local.pool import token
from local.pool.condor import ADDRESS, ISSUER, SUBJECT
from local.pool.manifests import NAMESPACE

NAME = "issuer"
PORT = 8443
KEY_ID = "one"
LIFE_SECONDS = 3600
SERVE = f"""\
import functools, http.server, ssl
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/srv")
server = http.server.ThreadingHTTPServer(("", {PORT}), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()"""

Json = dict[str, Any]


@dataclass(frozen=True)
class Issuer:
    """What signs tokens; only one whose manifests are applied is believed."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=elliptic)

    def token(self, seconds: int = LIFE_SECONDS) -> str:
        """A token for a startd that is good for so long: for as much as the pool's own token is."""
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": SUBJECT, "aud": ADDRESS, "ver": "scitoken:2.0", "jti": str(time.time_ns()),
            "nbf": now - 5, "iat": now - 5, "exp": now + seconds,
            "scope": " ".join(f"condor:/{authorization}" for authorization in token.AUTHORIZATIONS),
        }  # fmt: skip
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": KEY_ID})

    def manifests(self, image: str) -> list[Json]:
        """The web server, beside the pool."""
        metadata = {"name": NAME, "namespace": NAMESPACE, "labels": {"app": NAME}}
        key = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        files = {
            "openid-configuration": json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}),
            "jwks": json.dumps({"keys": [{**key, "use": "sig", "alg": "ES256", "kid": KEY_ID}]}),
        }
        container = {
            "name": NAME,
            "image": image,
            "args": ["python3", "-c", SERVE],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "files", "mountPath": "/srv"}, {"name": "tls", "mountPath": "/tls"}],
        }
        items = [
            {"key": "openid-configuration", "path": ".well-known/openid-configuration"},
            {"key": "jwks", "path": "jwks"},
        ]
        spec = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "files", "configMap": {"name": NAME, "items": items}},
                {"name": "tls", "secret": {"secretName": NAME}},
            ],
        }  # fmt: skip
        return [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files},
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": _certificate()},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"selector": {"app": NAME}, "ports": [{"port": 443, "targetPort": PORT}]},
            },
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        ]


def _certificate() -> dict[str, str]:
    """A certificate of the web server, by the authority that the pool believes."""
    now, own = datetime.now(UTC), elliptic()
    host = ISSUER.removeprefix("https://")
    leaf = Leaf(
        name=NAME, user=host, hosts=(host,), usages=(SERVER,), life=timedelta(days=1), renew_before=timedelta(0)
    )
    files = {"tls.crt": pem(certificates.authority(now).issue(leaf, own, now)), "tls.key": pem(own)}
    return {name: b64encode(content).decode() for name, content in files.items()}
