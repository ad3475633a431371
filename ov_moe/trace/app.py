"""The commands ``ov-moe trace record`` and ``ov-moe trace show``. Does not import openvino."""

from __future__ import annotations

import typer

from ov_moe.commands.console import messages
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.model_files import find_model
from ov_moe.commands.options_record import command_from
from ov_moe.commands.output_files import check_writable, write_together
from ov_moe.commands.properties import parse_properties
from ov_moe.commands.stop import IncompleteError
from ov_moe.devices.place import choose
from ov_moe.errors import InvalidInputError
from ov_moe.options import Config
from ov_moe.trace.options import RecordOptions, ShowOptions
from ov_moe.trace.recording import check_layer, load, metadata_path
from ov_moe.trace.show import show

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """Record how many tokens each expert gets, and show what that means."""


def record_command(options: RecordOptions) -> None:
    """Run prompts through a clone of the model that shows its expert ids; write the counts of every layer."""
    with one_sentence():
        path = find_model(options.model)
        prompts = options.prompts.read()
        if not prompts:
            raise InvalidInputError("There is nothing to run: give --prompt-tokens, --prompt or --prompt-file.")
        output, view = options.output, options.view
        if output.suffix == ".json":
            raise InvalidInputError(f"{output} is where the JSON beside the CSV goes: give the CSV another name.")
        check_writable((output, metadata_path(output), view.heat_map, view.timeline))
        view.check_pictures()
        properties = parse_properties(options.setting or [])
        config = Config.from_environment()
        place = choose(options.device)
        from ov_moe.trace.record import record  # imports openvino, which the virtual GPU must precede

        recording, stop = record(
            path,
            place.device,
            prompts,
            config,
            properties,
            new_tokens=options.new_tokens,
            seed=options.seed,
            progress=messages().print,
            layer=view.layer,
        )
        contents = recording.contents(output)
        try:
            contents |= show(recording, view)
        finally:  # whoever read it may have left
            write_together(contents)
        typer.echo(f"Written: {', '.join(map(str, contents))}")
        if stop is not None:
            raise IncompleteError(stop, f"{len(recording.prefills)} of {len(prompts)} prompts")
        if all(one.text is None for one in prompts):
            typer.echo("The prompts were random tokens, which are routed less evenly than text: record texts as well.")


def show_command(options: ShowOptions) -> None:
    """Print the imbalance of a recording, and draw it."""
    with one_sentence():
        view = options.view
        check_writable((view.heat_map, view.timeline))
        view.check_pictures()
        found = load(options.recording)
        check_layer(view.layer, len(found.layers))
        write_together(show(found, view))


app.command("record")(command_from(RecordOptions, record_command))
app.command("show")(command_from(ShowOptions, show_command))
