"""Clients of the load generator: HTTP/1.1, gRPC over HTTP/2, and the ways to reach a server."""
