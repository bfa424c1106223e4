"""The `compare` command: scores all decoders of a space on the same images."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..decoders.catalogue import Candidate, Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import read_card, read_decoder
from ..errors import FitError
from ..fitting.image_ids import fair_comparison
from ..fitting.noisy_latents import score_noisy_latents
from ..fitting.pairs import Pairs
from ..fitting.report import (
    ScoredDecoder,
    ScoreTable,
    image_sheet,
    score_chart,
    score_decoders,
    score_table,
    scoring_parts,
)
from .pair_input import add_device_option, add_pair_options, add_teacher_options, named_pairs, named_space, require_room
from .report_folder import write_report, write_table
from .table import print_lines

SHEET_IMAGES = 6


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `compare`."""
    compare = commands.add_parser("compare", help="score all decoders of a space on the same images")
    add_pair_options(compare)
    add_teacher_options(compare)
    add_device_option(compare)
    compare.add_argument("--decoder", type=Path, action="append", default=[], help="additional decoder file to score")
    compare.add_argument("--out", type=Path, help="folder for table.md, sheet.png and chart.png")
    compare.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    space = named_space(arguments)
    require_room(arguments.out)
    catalogue = Catalogue(arguments.folder)
    # The decoder that `auto` uses comes first: the table compares the others with it.
    installed = {candidate.name: candidate for candidate in (*catalogue.candidates(space)[:1], *catalogue.of(space))}
    candidates = [*installed.values(), *map(_candidate, arguments.decoder)]
    named = named_pairs(arguments, space)
    fair = fair_comparison(named.pairs.image_ids, [candidate.card for candidate in candidates])
    pairs = named.pairs if all(fair.keeps) else named.pairs.select(fair.keeps)
    decoders = [candidate.open() for candidate in candidates if candidate.name not in fair.left_out]
    if not decoders:
        raise FitError(f"nothing to compare: {'; '.join(fair.notes)}")
    print_lines(*named.notes, *fair.notes, f"on {named.description}:", "")
    rows = _score(decoders, pairs, arguments.out)
    if arguments.teacher:
        _print_noisy_scores(decoders, pairs, read_decoder(arguments.teacher))
    if arguments.out:
        shown = pairs.one_of_each_image(SHEET_IMAGES)
        decoded = {decoder.name: decoder.decode(shown.latents.float()) for decoder in decoders}
        sheet = image_sheet(shown.rgb(shown.downscale), decoded)
        write_report(arguments.out, score_table(rows), sheet, score_chart(rows))
    return 0


def _score(decoders: Sequence[Decoder], pairs: Pairs, folder: Path | None) -> list[ScoredDecoder]:
    """Scores decoders; each row of the table is printed, and the file written, as soon as it is known."""
    table = ScoreTable(decoder.name for decoder in decoders)
    lines = [table.head()]
    print(lines[0], flush=True)
    with tqdm(total=scoring_parts(decoders, pairs), unit="part", file=sys.stderr, leave=False) as bar:

        def show(row: ScoredDecoder) -> None:
            lines.append(table.line(row))
            with bar.external_write_mode(file=sys.stdout):
                print(lines[-1], flush=True)
            if folder is not None:
                write_table(folder, "\n".join(lines))

        return score_decoders(decoders, pairs, on_part=bar.update, on_scored=show)


def _candidate(path: Path) -> Candidate:
    return Candidate(read_card(path), partial(read_decoder, path), path)


def _print_noisy_scores(decoders: Sequence[Decoder], pairs: Pairs, teacher: Decoder) -> None:
    nets = [decoder.net for decoder in decoders]
    print_lines(
        "",
        f"PSNR in dB against {teacher.name} on the same noisy latents, at latent size. flicker: error between steps",
        "of a run; cast: color error on plain latents; both in levels of 255. detail: on soft latents, relative to the",
        "teacher. The columns are the decoders, in the order above",
    )
    for title, numbers in score_noisy_latents(nets, pairs.latents, teacher.decode):
        print(f"{title:14}", *(f"{number:6.2f}" for number in numbers))
