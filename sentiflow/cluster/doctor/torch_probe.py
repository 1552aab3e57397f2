"""This machine -> what torch makes of it and of its GPUs, as a line of JSON.

A file of its own, run by a Python of its own: a broken build or driver may crash or hang it.
"""

import json
from typing import Any

_SIZE = 256


def probe() -> dict[str, Any]:
    """Multiply small matrices on the CPU and on every GPU that torch sees."""
    import torch

    found: dict[str, Any] = {
        "version": torch.__version__,
        "built_for": torch.version.cuda or getattr(torch.version, "hip", None) or "",
        "gpus": [],
    }
    _multiply("cpu", torch.float32)
    for number in range(torch.cuda.device_count()):
        gpu = {"name": "", "bf16": False, "problem": ""}
        try:
            gpu["name"] = torch.cuda.get_device_name(number)
            _multiply(f"cuda:{number}", torch.float32)
            gpu["bf16"] = torch.cuda.is_bf16_supported(including_emulation=False)
            if gpu["bf16"]:
                _multiply(f"cuda:{number}", torch.bfloat16)
        except RuntimeError as error:
            gpu["problem"] = str(error).splitlines()[0]
        found["gpus"].append(gpu)
    return found


def _multiply(device: str, dtype: Any) -> None:
    import torch

    ones = torch.ones(_SIZE, _SIZE, device=device, dtype=dtype)
    if float((ones @ ones)[0, 0]) != _SIZE:
        raise RuntimeError(f"{device} multiplies wrongly")


if __name__ == "__main__":
    print(json.dumps(probe()))
