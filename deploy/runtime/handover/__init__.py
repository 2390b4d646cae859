"""One listening socket, two releases: a new server takes over without losing a connection."""
