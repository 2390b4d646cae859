"""Which request runs when: queue, batches, pacing, dispatch. Knows no protocol."""
