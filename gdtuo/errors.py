"""The one exception class of this package."""


class GdtuoError(ValueError):
    """What gdtuo refuses: the message says what was given, what was expected, what to do."""
