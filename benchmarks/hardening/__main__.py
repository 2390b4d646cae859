"""`make bench-hardening`: attacks on shipping and on the server, int8 on other CPUs, other engines, and their bounds.

QUICK=1: fewer and shorter attacks, and the rows say so. ONLY=topic,topic runs some topics; each is also a module of its
own (`python -m benchmarks.hardening.TOPIC`). Run it with nothing beside it.
"""

from benchmarks.topics import run_topics

TOPICS = ("sticks", "server", "malformed", "throughput", "engines", "saturation", "fleet")

if __name__ == "__main__":
    run_topics("benchmarks.hardening", TOPICS)
