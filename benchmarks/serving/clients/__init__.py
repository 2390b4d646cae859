"""Clients for the load: HTTP/1.1, gRPC over HTTP/2, and the ways in which a request can go."""
