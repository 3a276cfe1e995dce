"""What can go wrong for a user, as exceptions whose text says what to do."""


class PipelineError(Exception):
    """A failure of the pipeline; its text is fit to be shown to a user."""


class UsageError(PipelineError):
    """Wrong use or unusable input: one clear sentence, exit code 2."""


class UnknownBackbone(UsageError):
    """No backbone has that name; the text suggests the near ones."""


class WeightsUnavailable(UsageError):
    """The weights asked for are neither on disk nor reachable; the text has the remedies."""
