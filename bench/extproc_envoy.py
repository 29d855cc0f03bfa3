"""Envoy's configuration for the bench: a listener for each subject, alike but for the processor that it asks.

Only makes the configuration. Called by extproc.py.
"""

TYPES = "type.googleapis.com/envoy.extensions"
MANAGER = f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"
EXT_PROC = f"{TYPES}.filters.http.ext_proc.v3.ExternalProcessor"
ROUTER = f"{TYPES}.filters.http.router.v3.Router"
HTTP2 = f"{TYPES}.upstreams.http.v3.HttpProtocolOptions"
# Above the largest body sent, so that all modes can hold it.
BUFFER_BYTES = 16 << 20
DESTINATION = "x-gateway-destination-endpoint"


def address(port, host="127.0.0.1"):
    return {"socket_address": {"address": host, "port_value": port}}


def cluster(name, port, **more):
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    return {"name": name, "type": "STATIC", "connect_timeout": "2s",
            "load_assignment": {"cluster_name": name, "endpoints": endpoints}, **more}


def asks(processor):
    """The cluster of the processor at this port. Its name is sent as an authority, so it may be no other than a host's."""
    return f"processor-{processor}"


def listener(name, port, processor, modes):
    """Without a processor all goes to the engine; with one, to the endpoint that it names."""
    filters = [{"name": "router", "typed_config": {"@type": ROUTER}}]
    if processor:
        request, response = modes
        filters.insert(0, {"name": "ext_proc", "typed_config": {
            "@type": EXT_PROC,
            "grpc_service": {"envoy_grpc": {"cluster_name": asks(processor)}},
            "message_timeout": "30s",
            "processing_mode": {
                "request_header_mode": "SEND", "request_body_mode": request, "request_trailer_mode": "SEND",
                "response_header_mode": "SEND", "response_body_mode": response, "response_trailer_mode": "SEND",
            },
            "metadata_options": {"receiving_namespaces": {"untyped": ["envoy.lb"]}},
        }})
    route = {"match": {"prefix": "/"}, "route": {"cluster": "picked" if processor else "engine", "timeout": "60s"}}
    manager = {
        "@type": MANAGER, "stat_prefix": name, "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    return {"name": name, "address": address(port), "per_connection_buffer_limit_bytes": BUFFER_BYTES,
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}


def config(admin, engine, subjects):
    """`subjects`: name to (port, port of its processor or None, body modes)."""
    http2 = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": HTTP2, "explicit_http_config": {"http2_protocol_options": {}}}}}
    # As many as come: the default of 1024 would be the limit of the held streams.
    much = {"circuit_breakers": {"thresholds": [
        {f"max_{what}": 100_000 for what in ("connections", "pending_requests", "requests")}]}}
    picked = {"name": "picked", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s", **much,
              "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION}}
    clusters = [picked, cluster("engine", engine, **much)]
    processors = sorted({to for _, to, _ in subjects.values() if to})
    clusters += [cluster(asks(to), to, **http2, **much) for to in processors]
    listeners = [listener(name, *subject) for name, subject in subjects.items()]
    return {"admin": {"address": address(admin)}, "static_resources": {"listeners": listeners, "clusters": clusters}}
