"""Is a trained model any good on a test split, and if it is not, which mistake explains it?"""

from toolchain.accuracy.diagnosis import explain_chance

__all__ = ["explain_chance"]
