"""Train the video demo model from nothing: autoencoder, latents, flow; then write it as a model folder.

Goes on where it was stopped. The folder of checkpoints is not needed afterwards.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from gpu_worker.demo import WAN_DEMO
from gpu_worker.demo.training_run import TrainingRun
from gpu_worker.demo.videos.autoencoder import finish_decoder, train_on_stills
from gpu_worker.demo.videos.flow import train_flow, train_text_encoder
from gpu_worker.demo.videos.latents import latents_of
from gpu_worker.demo.videos.model import assemble, autoencoder, save, transformer

STILL_STEPS, DECODER_STEPS, READING_STEPS, FLOW_STEPS = 500, 600, 2000, 8600
CLIPS = 2304


def main(argv: list[str]) -> int:
    """Train what `argv` asks for, write the model and return the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(arguments.folder, arguments.seed)
    if arguments.only == "export":
        return export(run, arguments.weights)
    vae = train_on_stills(run, arguments.still_steps)
    data = latents_of(run, vae, arguments.clips)
    if arguments.only != "flow":
        finish_decoder(run, vae, arguments.decoder_steps)
    if arguments.only != "decoder":
        text = train_text_encoder(run, arguments.reading_steps)
        train_flow(run, text, data, arguments.flow_steps)
    return export(run, arguments.weights) if arguments.only is None else 0


def export(run: TrainingRun, folder: Path) -> int:
    """Write the model from the checkpoints that are there, finished or not."""
    state, latents = run.load("flow"), run.load("latents")
    decoder = run.load("decoder") or run.load("stills")
    if state is None or latents is None or decoder is None:
        run.log(f"There is nothing to export in {run.folder}: the flow has no checkpoint yet.")
        return 1
    vae: Any = autoencoder(latents["mean"], latents["std"])
    vae.load_state_dict(decoder["model"])
    flow: Any = transformer()
    flow.load_state_dict(state["slow_transformer"])
    save(assemble(vae, train_text_encoder(run, 0), flow), folder)
    run.log(f"The model after {state['step']} steps of its flow is in {folder}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train-wan", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/demo-wan"), help="of checkpoints and the log")
    parser.add_argument("--weights", type=Path, default=WAN_DEMO, help="where the model is written")
    parser.add_argument("--still-steps", type=int, default=STILL_STEPS)
    parser.add_argument("--decoder-steps", type=int, default=DECODER_STEPS)
    parser.add_argument("--reading-steps", type=int, default=READING_STEPS)
    parser.add_argument("--flow-steps", type=int, default=FLOW_STEPS)
    parser.add_argument("--clips", type=int, default=CLIPS, help="that are drawn for the flow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--only", choices=["decoder", "flow", "export"], help="one of the later parts alone")
    return parser
