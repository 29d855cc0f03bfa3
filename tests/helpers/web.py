"""One HTTP client for all tests: a fresh connection for each request, no proxy, made once because that is slow."""

import httpx

TIMEOUT_S = 30.0

web = httpx.Client(verify=False, trust_env=False, timeout=TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0))
