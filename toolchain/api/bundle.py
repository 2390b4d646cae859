"""`toolchain.Bundle`: what a build made, as a folder on disk."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.api.display import show_progress

if TYPE_CHECKING:
    from toolchain.api.image import Image
    from toolchain.records.bundle import Bundle
    from toolchain.records.manifest import Manifest


class BuiltBundle:
    """A bundle: the model in every precision that was built, which of them serves, and what was measured of each.

    `edge.build` returns one; `edge.Bundle.open` reads one from its folder.

    Example:
        >>> bundle.release, bundle.labels[0], bundle.accuracy > 0.9
        ('1', 'angle_000', True)
    """

    def __init__(self, record: "Bundle") -> None:
        self._record = record

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> "BuiltBundle":
        """The bundle in a folder that `build` made; errors.RecordError where a byte of it has changed.

        Args:
            folder: the bundle's folder

        Example:
            >>> edge.Bundle.open(bundle.folder).digest == bundle.digest
            True
        """
        from toolchain.records.bundle import open_bundle

        return cls(open_bundle(Path(folder)))

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._record.folder

    @property
    def digest(self) -> str:
        """The SHA-256 of its manifest, which has the digest of every file: it identifies the release everywhere."""
        return self._record.digest

    @property
    def manifest(self) -> "Manifest":
        """Everything that is known of it (reference/file-formats.md#manifest)."""
        return self._record.manifest

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def release(self) -> str:
        """The release's name."""
        return self.manifest.release

    @property
    def target(self) -> str:
        """The engine that it was built for."""
        return self.manifest.target

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names, in the order of the outputs."""
        return self.manifest.labels

    @property
    def precision(self) -> str:
        """The precision that was chosen."""
        return self.manifest.chosen

    @property
    def accuracy(self) -> float | None:
        """The chosen precision's accuracy on the test split, 0 to 1; None where there is no labelled data."""
        return self.manifest.serving.accuracy

    def image(self, tag: str | None = None, *, tracing: bool = False) -> "Image":
        """Build its container image, unless it is there already. It needs a Docker Engine.

        Args:
            tag: the image's name; by default edge-NAME:RELEASE-TARGET
            tracing: include OpenTelemetry, for servers that send spans to a collector

        Example:
            >>> image = bundle.image()
            >>> image.tag == f"edge-{bundle.name}:1-openvino"
            True
        """
        from deploy.images.build import build_image
        from toolchain.api.image import Image

        with show_progress():
            return Image(build_image(self._record, tag, tracing=tracing).tag)

    def __repr__(self) -> str:
        shown = f"{self.name} {self.release} for {self.target}: {self.precision}"
        return f"Bundle({shown}{'' if self.accuracy is None else f', {self.accuracy:.2%}'}, {self.folder})"

    def _repr_html_(self) -> str:
        """In a notebook: the candidates, as a table and as a plot."""
        from toolchain.report.html import table
        from toolchain.report.plots import pareto, svg
        from toolchain.views.bundle import candidates_table

        figure = pareto(self.manifest.candidates, self.manifest.chosen)
        return candidates_table(self.manifest, table) + (svg(figure) if figure else "")
