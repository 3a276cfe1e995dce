"""The command line: parse, call, print."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from cache.errors import CacheError
from pipeline import options, viewflags
from pipeline.config import PredictConfig
from pipeline.errors import PipelineError
from pipeline.text import one_line, plural, printable


def main() -> None:
    """Run the command and leave with its exit code: 0, 1, 2 or 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may hold any byte: what came in goes out.
            stream.reconfigure(errors="surrogateescape")
    try:
        sys.exit(command(standalone_mode=False))
    except (click.exceptions.Abort, KeyboardInterrupt):
        # One signal is enough: a second one would end the process before it has said so.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _leave("interrupted; features that were computed are kept, the next run goes on", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _leave(error.format_message(), 2)
    except (PipelineError, CacheError) as error:
        _leave(str(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{error.strerror or error}", 2)
    except MemoryError:
        _leave("out of memory: use a smaller --batch-size or --size", 2)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(text: str) -> None:
    """Print a result; what file names hold cannot steer the terminal."""
    click.echo(printable(text))


def _leave_if(strict: bool, rejected: int) -> None:
    """Leave with 2 where images could not be used and that is an error."""
    if strict and rejected:
        _leave(f"{plural(rejected, 'file')} could not be used (--strict: an error)", 2)


def _leave(sentence: str, code: int) -> None:
    click.echo(f"headstart: {one_line(sentence)}", err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="headstart")
def command() -> None:
    """Transfer learning on image folders: one pass of a frozen backbone, then many small heads."""


@command.command()
@click.argument("data")
@options.features_options
@viewflags.views_options
@options.shard
def features(as_json: bool, **flags: Any) -> None:
    """Stage one: run the backbone over DATA once and keep its features.

    DATA is a folder with one folder a class, a CSV or Parquet file, or the word digits. Several
    backbones, sizes, layers and poolings (between commas) are made in one pass over the images.
    """
    from pipeline.report.progress import ProgressReport
    from pipeline.report.stage_one import features_json, features_text
    from pipeline.stage_one import find_dataset, make_features

    config = options.features_config(flags)
    with ProgressReport() as progress:
        made = make_features(config, find_dataset(config), progress)
    _print(json.dumps(features_json(made)) if as_json else features_text(made))
    _leave_if(config.strict, len(made.rejects))


@command.command()
@click.argument("data", required=False)
@options.heads_options
def heads(as_json: bool, **flags: Any) -> None:
    """Stage two: make the features that are missing, train many heads on them, keep the best.

    DATA is a folder with one folder a class, a CSV or Parquet file, or the word digits; it may be
    left out where the file of --config names it.
    """
    from pipeline.report.progress import ProgressReport
    from pipeline.report.stage_two import heads_json, heads_text, write_run
    from pipeline.stage_two import save_best, train_heads

    config = options.heads_config(flags)
    with ProgressReport() as progress:
        trained = train_heads(config, progress)
    write_run(trained)
    save_best(trained)
    _print(json.dumps(heads_json(trained)) if as_json else heads_text(trained, sys.argv[0]))
    _leave_if(config.features.strict, len(trained.features.rejects))


@command.command()
@click.argument("place", metavar="[FOLDER|FILE]", type=options.PATH, default=".")
@options.as_json
def init(place: Path, as_json: bool) -> None:
    """Write the default sweep as a commented heads.toml, to be changed and given to heads."""
    from pipeline.report.starter import starter_json, starter_text
    from pipeline.starter import write_starter

    path = write_starter(place)
    _print(json.dumps(starter_json(path)) if as_json else starter_text(path))


@command.command("export-h5")
@click.argument("data")
@click.argument("file", type=options.PATH)
@options.features_options
def export_h5(file: Path, as_json: bool, **flags: Any) -> None:
    """Write the features of DATA with labels, paths and split to one FILE: .h5, .npz or .parquet.

    Features that the cache lacks are made first; the flags of features say which.
    """
    from pipeline.export_rows import export_rows
    from pipeline.report.export_rows import exported_json, exported_text
    from pipeline.report.progress import ProgressReport

    config = options.features_config(flags)
    with ProgressReport() as progress:
        done = export_rows(config, file, progress)
    _print(json.dumps(exported_json(done)) if as_json else exported_text(done))
    _leave_if(config.strict, len(done.features.rejects))


@command.command()
@click.argument("head", type=options.PATH)
@click.argument("images", nargs=-1, required=True, type=options.PATH)
@click.option("--weights", help="Weight file of the backbone, for a head trained on one.")
@options.batch_size
@options.engine
@options.converted
@options.strict
@options.as_json
def predict(as_json: bool, strict: bool, **flags: Any) -> None:
    """Label IMAGES (files or folders) with a head file, as CSV with each class's probability."""
    from pipeline.predict import predict as label
    from pipeline.report.predictions import predictions_csv, predictions_json
    from pipeline.report.progress import ProgressReport

    with ProgressReport() as progress:
        labelled = label(PredictConfig(**flags), progress)
    for reject in labelled.rejects:
        click.echo(one_line(f"headstart: {reject.path}: {reject.reason}"), err=True)
    if as_json:
        _print(json.dumps(predictions_json(labelled)))
    else:
        table = predictions_csv(labelled)
        # A file or a pipe gets names byte for byte.
        sys.stdout.write(printable(table) if sys.stdout.isatty() else table)
    if not labelled.paths:
        sys.exit(2)
    _leave_if(strict, len(labelled.rejects))


@command.command()
@click.argument("data", required=False)
@options.out
@options.as_json
def status(data: str | None, out: Path, as_json: bool) -> None:
    """Tell what the cache holds: stores, their rows, bytes and recipes, and what made them.

    With DATA, also how many of its images have no row in each.
    """
    from pipeline.report.stores import status_json, status_text
    from pipeline.stores import find_stores, look

    found = find_stores(out)
    shown, broken = look(found, out, data), found.broken
    _print(json.dumps(status_json(shown, broken)) if as_json else status_text(shown, broken))


@command.command()
@click.argument("data", required=False)
@options.verify_options
@viewflags.views_options
def verify(repair: bool, recompute: int, as_json: bool, **flags: Any) -> None:
    """Check every byte of the cache against its digests; exit with 1 where one is wrong.

    With --recompute, rows of DATA are computed again and compared as well.
    """
    from pipeline.report.stores import verify_json, verify_text
    from pipeline.stores import check, find_stores

    if bool(recompute) != bool(flags["data"]):
        raise click.UsageError("DATA and --recompute N go together: which images, and how many")
    found, again = check(find_stores(flags["out"]), repair=repair), None
    if recompute:
        from pipeline.recompute import recompute as compute_again
        from pipeline.report.progress import ProgressReport

        with ProgressReport() as progress:
            again = compute_again(options.features_config(flags), recompute, progress)
    _print(json.dumps(verify_json(found, again)) if as_json else verify_text(found, again))
    sys.exit(1 if found.findings or (again and again.deviations) else 0)


@command.command()
@click.argument("data")
@options.doctor_options
def doctor(as_json: bool, **flags: Any) -> None:
    """Prove inference mode on DATA, and measure what BatchNorm's training form would cost.

    Exit with 1 where a proof fails. With --model FILE, of a Keras model of your own: whether fit
    would use the statistics of batches, and what that does to these images.
    """
    from pipeline.doctor import examine
    from pipeline.report.doctor import doctor_json, doctor_text, draw
    from pipeline.report.progress import ProgressReport

    config = options.doctor_config(flags)
    with ProgressReport() as progress:
        found = examine(config, progress)
    draw(found)
    _print(json.dumps(doctor_json(found)) if as_json else doctor_text(found))
    sys.exit(0 if found.sound else 1)


@command.command()
@options.out
@options.as_json
def compact(out: Path, as_json: bool) -> None:
    """Merge the small shards of the cache into few; readers may read meanwhile."""
    from pipeline.report.tidy import compact_json, compact_text
    from pipeline.tidy import compact as merge

    done = merge(out)
    _print(json.dumps(compact_json(done)) if as_json else compact_text(done))
    sys.exit(0 if done.sound else 1)


@command.command()
@click.argument("data", nargs=-1, required=True)
@options.out
@click.option("--yes", is_flag=True, help="Remove without asking.")
@options.as_json
def gc(data: tuple[str, ...], out: Path, yes: bool, as_json: bool) -> None:
    """Remove the rows and stores that none of the DATA needs, and what dead processes left.

    Name every data set whose features are to stay. Shows what would go and asks first; with
    --json and without --yes, shows only.
    """
    from pipeline.report.tidy import gc_json, gc_text, plan_text
    from pipeline.tidy import carry_out, plan_gc

    plan = plan_gc(data, out)
    if not as_json:
        _print(plan_text(plan))
    agreed = not plan.nothing and (yes or (not as_json and _confirmed("remove it?")))
    findings = carry_out(plan) if agreed else ()
    if as_json:
        _print(json.dumps(gc_json(plan, agreed, findings)))
    elif not plan.nothing:
        _print(gc_text(agreed, findings))
    sys.exit(1 if findings else 0)


def _confirmed(question: str) -> bool:
    """Ask on standard error; no answer (nobody is there) is a no."""
    try:
        return click.confirm(question, err=True)
    except click.exceptions.Abort:
        return False


if __name__ == "__main__":
    main()
