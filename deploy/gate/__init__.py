"""Whether a release may go: the candidate is measured beside the release before it and judged."""
