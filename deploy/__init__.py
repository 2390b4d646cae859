"""Bundle -> image -> servers, and whether it may go."""
