"""What people bring: models, folders, recipes and clients that nobody here made."""
