#!/usr/bin/env python3
"""Converts LLM Router v2's trained network, `nn_router.pth`, to the safetensors file that Waypost reads.

The file is a pickle with the network's state, its configuration and the names of the models; it is read without running
any code in it. Needs torch and safetensors. The names go into the metadata and must match models of your Waypost
configuration, or be mapped there; `--names` replaces them in the order of the outputs.
"""

import argparse
import json
import pathlib
import re
import sys

STATES = ("model_state_dict", "state_dict", "model")
PART = re.compile(r"network\.\d+\.(weight|bias|running_mean|running_var|num_batches_tracked)")


def read(path):
    """The file's content."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        sys.exit(f"{path}: {error.strerror or error}")
    except Exception as error:  # what a broken pickle raises is anything; its text advises to run the code in it
        sys.exit(f"{path}: not a PyTorch file with nothing but tensors and plain values in it ({type(error).__name__})")


def state_of(content, path):
    """The tensors of the network, by name."""
    import torch

    if not isinstance(content, dict):
        sys.exit(f"{path}: holds a {type(content).__name__} instead of a dict")
    state = next((content[key] for key in STATES if isinstance(content.get(key), dict)), content)
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    if "network.0.weight" not in tensors:
        sys.exit(f"{path}: no network state found: no `network.0.weight` at the top or under {', '.join(STATES)}; its keys are {list(content)[:10]}")
    foreign = [name for name in state if not PART.fullmatch(str(name))]
    if foreign:
        sys.exit(f"{path}: its network is not v2's: unknown entries {foreign[:5]}")
    counts = {name: t for name, t in tensors.items() if name.endswith("num_batches_tracked")}
    return {name: t.to(torch.float32).contiguous() for name, t in tensors.items() if name not in counts}


def names_of(content, given, path):
    """The models' names in the order of the outputs."""
    names = given or content.get("model_names")
    if not names:
        sys.exit(f"{path}: holds no model_names; give them with --names")
    names = [str(name) for name in names]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        sys.exit(f"{path}: two outputs have the same name: {', '.join(double)}")
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, help="v2's nn_router.pth")
    parser.add_argument("target", type=pathlib.Path, help="safetensors file to write")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names for the outputs instead of the file's own")
    args = parser.parse_args()
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        sys.exit(f"needs torch and safetensors (pip install torch safetensors): {error}")
    content = read(args.source)
    state = state_of(content, args.source)
    names = names_of(content, args.names, args.source)
    last = max(int(name.split(".")[1]) for name in state)
    outputs = len(state.get(f"network.{last}.bias", ()))
    if len(names) != outputs:
        sys.exit(f"{args.source}: {len(names)} names ({', '.join(names)}) for {outputs} outputs")
    save_file(state, args.target, metadata={"model_names": json.dumps(names)})
    print(f"{args.target}: {state['network.0.weight'].shape[1]} numbers in; out: {', '.join(names)}")


if __name__ == "__main__":
    main()
