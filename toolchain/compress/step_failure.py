"""What fails in a step is said in one line with its place. Apart from the table of steps, which no step depends on."""

from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.errors import RecipeError, StepError
from toolchain.failures import explain_failure


@contextmanager
def explain_step(place: str, number: int, name: str) -> Iterator[None]:
    """Add the step's place to a RecipeError; any exception of a library becomes a StepError in one line, which names
    the layer that it was at."""
    from toolchain.models.failing_layer import find_failing_layer

    where = f"{place}: step {number}, {name}"
    cure = "remove or change the step, or leave that layer out of it with the step's `ignore` where it has one"
    try:
        with explain_failure(StepError, where, cure, find_failing_layer):
            yield
    except RecipeError as error:
        if str(error).startswith(f"{where}: "):
            raise
        raise RecipeError(f"{where}: {error}") from error
