"""Run by export.golden in a process of its own, because TFLM trusts its model: model and input on stdin -> the output.

Arguments: bytes of the model, which come first on stdin, and bytes of the arena.
"""

from __future__ import annotations

import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime

if __name__ == "__main__":
    model_bytes, arena_bytes = map(int, sys.argv[1:])
    data = sys.stdin.buffer.read()
    interpreter = runtime.Interpreter.from_bytes(data[:model_bytes], arena_size=arena_bytes)
    details = interpreter.get_input_details(0)
    values = np.frombuffer(data[model_bytes:], details["dtype"]).reshape(details["shape"])
    interpreter.set_input(values, 0)
    interpreter.invoke()
    sys.stdout.buffer.write(np.ascontiguousarray(interpreter.get_output(0)).tobytes())
