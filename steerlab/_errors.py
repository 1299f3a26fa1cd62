"""What is raised about something that the user gave: a value, a file, a model, a folder.

A script ends with one line and exit code 2 on these. Any other exception is a bug and keeps its traceback.
"""


class InputError(ValueError):
    """An input that cannot be used; the message names the value, what was expected and what to do.

    Example:
        >>> import steerlab as sl
        >>> try:
        ...     sl.load_task("arithmetic", variant="divisions")
        ... except sl.InputError as error:
        ...     print(str(error).split(";")[0])
        variant='divisions'
    """


class InputTypeError(InputError, TypeError):
    """An input of a kind that cannot be used, such as one text where a list of texts is wanted."""


class InputFileError(InputError, OSError):
    """A file or folder that cannot be read or written as asked."""


class InputMemoryError(InputError, MemoryError):
    """Work that does not fit into this machine's memory, however it is cut."""


class MissingFileError(InputFileError, FileNotFoundError):
    """A file or folder that is not there, or lacks what was expected in it."""


class ExistingFileError(InputFileError, FileExistsError):
    """A file or folder that is there already, and would be lost."""
