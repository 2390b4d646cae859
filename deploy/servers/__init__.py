"""One edge server: Docker over ssh, its lock, the transfer of an image, what runs there."""
