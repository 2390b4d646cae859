"""Which request runs when: queue, batches, throttle, dispatch. Knows no protocol."""
