"""The errors that ov-moe raises; each message is one sentence that names what is wrong, where, and what to do."""


class OvMoeError(Exception):
    """Base of every error raised on purpose by ov-moe."""


class InvalidInputError(OvMoeError, ValueError):
    """An argument, a tensor or a model has a shape, a type or a value that cannot be served."""


class DeviceError(OvMoeError, RuntimeError):
    """A device, a driver or a runtime that is needed is missing, refused, or came too late."""


class OutputError(OvMoeError):
    """A result cannot be written."""
