"""TLS, client certificates and tokens, reloaded when their files change."""
