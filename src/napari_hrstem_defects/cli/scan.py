"""The command ``scan``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from napari_hrstem_defects.cli.analyze import check_positive
from napari_hrstem_defects.cli.console import USAGE, Reporter, errors_as_lines
from napari_hrstem_defects.models.scan import LEAST_PROBABILITY, Scan, scan, usual_stride


def run(
    image: Path,
    model: str,
    out: Path,
    stride: int | None,
    least_probability: float | None,
    pixel_size: float | None,
    select: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Slide an ensemble over an image; see :func:`napari_hrstem_defects.models.scan.scan`."""
    with errors_as_lines(USAGE), Reporter(quiet) as reporter:
        check_positive("--pixel-size", pixel_size, "length in nm")
        from napari_hrstem_defects.io.reading import read
        from napari_hrstem_defects.io.scans import save_scan
        from napari_hrstem_defects.models.registry import find
        from napari_hrstem_defects.models.store import load_model

        micrograph = read(image, pixel_size_nm=pixel_size, select=select)
        stored = load_model(find(model))
        step = usual_stride(stored.contract) if stride is None else stride
        least = LEAST_PROBABILITY if least_probability is None else least_probability
        counts: Counter[str] = Counter()
        warnings: dict[str, None] = {}
        record = {
            "model": {"name": stored.contract.name, "file": stored.path.name, "sha256": stored.sha256},
            "window_px": stored.contract.patch_px,
            "stride_px": step,
            "least_probability": least,
        }

        def scans() -> Iterator[Scan]:
            for index in range(len(micrograph)):
                found = scan(
                    stored,
                    micrograph.frame(index).pixels,
                    stride_px=step,
                    pixel_size_nm=micrograph.pixel_size_nm,
                    least_probability=least,
                    progress=lambda share, text, index=index: reporter.progress(  # type: ignore[misc]
                        (index + share) / len(micrograph), text
                    ),
                )
                counts.update(part.name for part in found.regions)
                warnings.update(dict.fromkeys(found.warnings))
                yield found

        folder = save_scan(
            scans(),
            micrograph,
            out / image.stem,
            stored.contract.classes,
            record=record,
            overwrite=overwrite,
        )
        for warning in warnings:
            reporter.complain(f"{image}: {warning}")
        kinds = ", ".join(f"{counts[name]} {name}" for name in stored.contract.classes if counts[name])
        reporter.say(f"{folder}: {kinds or 'no defect'}")
