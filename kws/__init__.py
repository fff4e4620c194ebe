"""Keyword spotting from recordings to microcontroller firmware.

The stages, in the order data flows through them:

    synth       words spoken by synthetic voices, the embedded default data
    audio       files -> float32 mono 16 kHz
    dataset     folders -> labels and speaker-disjoint splits
    augmentation  speed, shift, rooms, noise and masks, at training time only
    features    samples -> log-mel, the one definition
    model       BC-ResNet
    training    recipe, batches, loop; checkpoint keeps what it learnt
    benchmark   every form of a model on the same clips

`commands` has a module for each command of the command line. `quantize` and `export` take the checkpoint from
there to int8, TFLite and C headers.
"""

__version__ = "0.1.0"
