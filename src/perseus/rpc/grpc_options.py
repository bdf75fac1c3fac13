"""Options of gRPC servers and channels; imports nothing."""

# Hello of a node lists all its replicas.
MESSAGE_MAXIMUM_BYTES = 64 << 20
KEEPALIVE_S = 10.0
KEEPALIVE_TIMEOUT_S = 10.0
RECONNECT_FIRST_S = 0.2
RECONNECT_MAXIMUM_S = 2.0
# What gRPC calls the least back-off is how long one attempt may take, handshake
# included: long enough for a busy old PC, short enough to find a mended link soon.
CONNECT_TIMEOUT_S = 3.0
HANDSHAKE_TIMEOUT_S = 10.0
# One HTTP/2 frame carries a good part of a 1 MiB message.
FRAME_BYTES = 1 << 20
# What a stream may send unacknowledged before probing has found the link's own measure.
WINDOW_BYTES = 4 << 20

_Options = list[tuple[str, int | str]]

COMMON_OPTIONS: _Options = [
    ("grpc.max_send_message_length", MESSAGE_MAXIMUM_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_MAXIMUM_BYTES),
    ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 1),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.http2.max_frame_size", FRAME_BYTES),
]

SERVER_OPTIONS: _Options = [
    *COMMON_OPTIONS,
    # A peer that pings twice as often as we ask for is still welcome.
    ("grpc.http2.min_ping_interval_without_data_ms", int(KEEPALIVE_S * 500)),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", int(KEEPALIVE_S * 500)),
    ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT_S * 1000)),
    ("grpc.so_reuseport", 0),
]


def reconnecting(first_s: float, connect_timeout_s: float, maximum_s: float) -> _Options:
    """How a channel dials: the first pause, how long one attempt may take, the longest pause."""
    return [
        ("grpc.initial_reconnect_backoff_ms", int(first_s * 1000)),
        ("grpc.min_reconnect_backoff_ms", int(connect_timeout_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", int(maximum_s * 1000)),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]


CHANNEL_OPTIONS: _Options = [
    *COMMON_OPTIONS,
    *reconnecting(RECONNECT_FIRST_S, CONNECT_TIMEOUT_S, RECONNECT_MAXIMUM_S),
]
