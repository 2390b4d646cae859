"""`make bench-optimizers`: one net by every optimizer that runs here, interleaved at batch 1.

QUICK=1: 2,000 test images; IMAGES=N. ONLY=topic. Run it with nothing beside it.
"""

from benchmarks.topics import run_topics

TOPICS = ("ptq",)

if __name__ == "__main__":
    run_topics("benchmarks.optimizers", TOPICS)
