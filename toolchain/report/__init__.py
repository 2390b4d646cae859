"""A release told to people: one page without a network, its plots as files, a summary for a pull request."""
