"""The one exception that reaches the user as a sentence."""


class KwsError(Exception):
    """The work failed: the message names the file, what is wrong and what to do, in one sentence."""
