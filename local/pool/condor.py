"""How the pool's HTCondor is configured."""

from local.certificates import POOL_HOST

PORT = 9618
ADDRESS = f"{POOL_HOST}:{PORT}"
TRUST_DOMAIN = "pool.atlas-sites.example"
STARTD = f"startd@{TRUST_DOMAIN}"
# Who issues SciTokens for it; the dev site has none, tests bring a stand-in.
ISSUER = "https://issuer.pool.svc.cluster.local"
SUBJECT = "startd"
# Whoever may enter the pod is the pool's operator and its physicist; never the same identity as a startd's, although
# both images have one user and he is called startd.
OPERATOR = f"operator@{TRUST_DOMAIN}"
KEEPALIVE_SECONDS = 180

# Paths in the container.
CONFIGURATION = "/etc/pool"
CERTIFICATES = "/run/secrets/pool/certificates"
SIGNING_KEY = "/run/secrets/pool/signing-key"
HOME = "/pool"


def configuration() -> str:
    """The configuration file of all daemons and tools in the pod."""
    return f"""\
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD
RELEASE_DIR = /usr
LIB = /usr/lib/condor
LIBEXEC = /usr/libexec/condor
LOCAL_DIR = {HOME}
LOG = {HOME}/log
LOCK = {HOME}/lock
RUN = {HOME}/run
SPOOL = {HOME}/spool
EXECUTE = {HOME}/execute
ENABLE_KERNEL_TUNING = False
DISCARD_SESSION_KEYRING_ON_STARTUP = False

# Startds find the collector by its Service, whose name the certificate has. In the pod that name is the pod itself, so
# that its daemons need not wait for the Service to know them. To others the collector tells their pod's address.
CONDOR_HOST = {POOL_HOST}
COLLECTOR_HOST = {ADDRESS}
NETWORK_HOSTNAME = {POOL_HOST}
USE_SHARED_PORT = True
SCHEDD_NAME = schedd@{POOL_HOST}
UID_DOMAIN = {TRUST_DOMAIN}
TRUST_DOMAIN = {TRUST_DOMAIN}
# Below the idle time-out of any NAT between a site and its pool.
TCP_KEEPALIVE_INTERVAL = {KEEPALIVE_SECONDS}

# A few jobs at a time, and somebody who watches.
NEGOTIATOR_INTERVAL = 5
NEGOTIATOR_CYCLE_DELAY = 2
NEGOTIATOR_MIN_INTERVAL = 2
SCHEDD_INTERVAL = 15

# Everybody is asked who he is: startds by token, SciToken or proxy, whoever is in this container by its file system.
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_INTEGRITY = REQUIRED
SEC_DEFAULT_ENCRYPTION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS, SCITOKENS, SSL
SEC_CLIENT_AUTHENTICATION_METHODS = FS
SEC_ENABLE_MATCH_PASSWORD_AUTHENTICATION = True
SEC_TOKEN_POOL_SIGNING_KEY_FILE = {HOME}/signing-key
SCITOKENS_SERVER_AUDIENCE = {ADDRESS}
AUTH_SSL_ALLOW_CLIENT_PROXY = True
AUTH_SSL_SERVER_CAFILE = {CERTIFICATES}/ca.pem
AUTH_SSL_SERVER_CERTFILE = {CERTIFICATES}/hostcert.pem
AUTH_SSL_SERVER_KEYFILE = {CERTIFICATES}/hostkey.pem
AUTH_SSL_SERVER_USE_DEFAULT_CAS = False
CERTIFICATE_MAPFILE = {CONFIGURATION}/mapfile

# A startd may show itself and look around, no more. The rest is the operator's.
ALLOW_READ = {STARTD}, {OPERATOR}
ALLOW_ADVERTISE_STARTD = {STARTD}
ALLOW_ADVERTISE_MASTER = {STARTD}, {OPERATOR}
ALLOW_ADVERTISE_SCHEDD = {OPERATOR}
ALLOW_WRITE = {OPERATOR}
ALLOW_DAEMON = {OPERATOR}
ALLOW_NEGOTIATOR = {OPERATOR}
ALLOW_ADMINISTRATOR = {OPERATOR}
"""


def mapfile(subject: str) -> str:
    """Who is who: the site's host certificate, every proxy made from it, and one subject of the issuer are a startd's.

    Args:
        subject: of that certificate, in OpenSSL's form with slashes.
    """
    return f'FS startd {OPERATOR}\nSSL "{subject}" {STARTD}\nSCITOKENS "{ISSUER},{SUBJECT}" {STARTD}\n'
