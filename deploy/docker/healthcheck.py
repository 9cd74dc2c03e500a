"""The image's health check: exit code 0 if this container's server answers /health with 200.

Needs nothing but Python. The port is `OCTAVO_PORT`'s, or 8000: who changes it with `--port` inside
the container tells the health check through that variable too. `OCTAVO_SSL_CERTFILE` makes it
HTTPS; the certificate is not looked at, since it names another address than this one.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 5.0


def main() -> int:
    """Ask once. Returns the exit code; what was wrong goes to standard error."""
    scheme = "https" if os.environ.get("OCTAVO_SSL_CERTFILE") else "http"
    url = f"{scheme}://127.0.0.1:{os.environ.get('OCTAVO_PORT', '8000')}/health"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with direct.open(url, timeout=TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        print(f"{url}: {error.code} {error.read().decode(errors='replace')}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
