"""KServe manifests of a release, and the Secrets that they name."""
