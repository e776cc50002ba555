"""The one error type that maskjax raises for mistakes a user can fix (standard library only)."""


class UserError(ValueError):
    """A mistake in what the user asked for: a path, a key, a value, a shape.

    The message names the file, key or argument, says what was found there, and says what to do.
    The command line prints it without a traceback and exits with code 2; library code may catch it
    as a plain ``ValueError``. Bugs of maskjax itself are never reported with this class.

    Attributes:
        exit_code: of the command; 2 also tells a launcher that starting again does not help.
    """

    exit_code = 2
