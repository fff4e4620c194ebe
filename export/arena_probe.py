"""Run by export.arena in a process of its own: model on stdin, arena bytes as argument -> TFLM's allocation report.

A process of its own because TFLM trusts its model, and where an arena is too small it may write through a null pointer.
"""

from __future__ import annotations

import sys

from tflite_micro.python.tflite_micro import runtime

if __name__ == "__main__":
    interpreter = runtime.Interpreter.from_bytes(sys.stdin.buffer.read(), arena_size=int(sys.argv[1]))
    interpreter.print_allocations()
