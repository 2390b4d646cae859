"""An image becomes something that runs: a server, or one command to completion."""
