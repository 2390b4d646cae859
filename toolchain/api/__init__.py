"""What `import toolchain as edge` offers: the workflows of the command line and a client, for Python."""
