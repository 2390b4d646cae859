"""The report on a release: a self-contained HTML page, its plots as files, a summary for a pull request."""
