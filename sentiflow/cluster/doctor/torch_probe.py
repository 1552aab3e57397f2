"""This machine -> version of torch, and how many GPUs it can use, as a line of JSON.

``cluster_checks`` runs this file in a Python of its own: a broken build of torch or a broken driver
may crash or hang it.
"""

import json

_SIZE = 256


def probe() -> tuple[str, int, str]:
    """Multiply small matrices on the CPU and on every GPU that torch sees.

    Returns:
        The version of torch; the number of GPUs that work; why the last of the others does not.
    """
    import torch

    num_usable, problem = 0, ""
    _multiply("cpu")
    for number in range(torch.cuda.device_count()):
        try:
            _multiply(f"cuda:{number}")
            num_usable += 1
        except RuntimeError as error:
            problem = str(error).splitlines()[0]
    return torch.__version__, num_usable, problem


def _multiply(device: str) -> None:
    import torch

    ones = torch.ones(_SIZE, _SIZE, device=device)
    if float((ones @ ones)[0, 0]) != _SIZE:
        raise RuntimeError(f"{device} multiplies wrongly")


if __name__ == "__main__":
    print(json.dumps(probe()))
