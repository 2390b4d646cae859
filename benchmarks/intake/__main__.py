"""`make bench-intake`: models, folders, recipes and clients that nobody here made, and their bounds.

QUICK=1: fewer of each, and the rows say so. ONLY=topic,topic runs some topics; each is also a module of its own
(`python -m benchmarks.intake.TOPIC`).
"""

from benchmarks.topics import run_topics

TOPICS = ("recipes", "clients", "folder", "cases", "onnx_models", "torchvision", "pixels", "transforms", "heads")

if __name__ == "__main__":
    run_topics("benchmarks.intake", TOPICS)
