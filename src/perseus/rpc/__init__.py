"""Remote calls: one dispatch behind gRPC and JSON over HTTP, and the clients of both."""
