"""``lrc publish``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.cli.commands.base import Console, SubParsers, add_verb
from lrc.cli.tables import human_size

if TYPE_CHECKING:
    from lrc.parts.packed import PackedCheckpoint


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "publish",
        run,
        "write a model card, and upload the model where asked",
        more="The card, OUT/README.md, has sizes, quality with intervals (of lrc eval --keep), how "
        "the model was made, warnings, and the licence of the original. A card that was changed "
        "by hand stays. Nothing is uploaded without --to, which needs the extra hub.",
        example="lrc publish OUT --to ORG/NAME",
    )
    parser.add_argument("model", type=Path, metavar="OUT", help="compressed model directory")
    parser.add_argument(
        "--to", metavar="ORG/NAME",
        help="upload to this repository of the Hugging Face hub; made if it is not there",
    )  # fmt: skip
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--base", metavar="ORG/NAME",
        help="the original on the hub (default: where the model was compressed from, if there)",
    )  # fmt: skip
    parser.add_argument(
        "--license", metavar="ID",
        help="licence of the original, as apache-2.0 (default: what the original's card says)",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true", help="write a card that was changed by hand anew"
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Write the card, and upload where asked."""
    from lrc.cli.page.card import CARD, card, origin_of
    from lrc.cli.page.page import Output
    from lrc.formats.hub_cache import refuse_cached
    from lrc.formats.hub_upload import check_upload
    from lrc.parts.side_file import is_as_written, replace_side_file

    if args.to is not None:
        check_upload(args.to)
    output = Output.open(args.model)
    folder = output.source.path
    refuse_cached(folder)
    origin = origin_of(output, args.base, args.license)
    if not origin.license:
        console.progress.note("the licence of the original is not known; give it with --license")
    if not output.quality.evaluations and not output.hears:
        console.progress.note("quality is not measured; lrc eval --keep does it")
    text = card(output, origin, args.to or output.name).encode()
    if args.overwrite or is_as_written(folder, CARD, text):
        replace_side_file(folder, CARD, text)
        console.line(f"wrote {folder / CARD}")
    else:
        console.progress.note(
            f"{folder / CARD} was changed by hand, and stays; --overwrite writes it anew"
        )
    if args.to is not None:
        _upload(Output.open(args.model).source, args, console)


def _upload(source: PackedCheckpoint, args: argparse.Namespace, console: Console) -> None:
    """Commit all files of the model, and no others."""
    from lrc.cli.page.shareable import shareable
    from lrc.formats.hub_upload import upload
    from lrc.parts.fields import MANIFEST, QUALITY
    from lrc.parts.manifest import read_manifest, write_manifest

    folder = source.path
    named = [*source.report["files"], *([QUALITY] if (folder / QUALITY).is_file() else [])]
    files: dict[str, Path | bytes] = {name: folder / name for name in named}
    files |= {path.relative_to(folder).as_posix(): path for path in source.other_files()}
    with tempfile.TemporaryDirectory() as work:
        # Where calibration texts lie on this machine is nobody else's business.
        write_manifest(Path(work), shareable(read_manifest(folder)))
        files[MANIFEST] = (Path(work) / MANIFEST).read_bytes()
    console.progress.note(f"uploading {len(files)} files, {human_size(source.nbytes)}")
    address = upload(args.to, files, "Compressed by lrc", private=args.private)
    console.line(f"uploaded to {address}")
