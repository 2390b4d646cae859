"""The Docker Engine: its API, ssh to another machine's, labels, archives and the sandbox flags."""
