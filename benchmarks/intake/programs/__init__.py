"""Programs that run in a process or an environment of their own."""
