"""What can go wrong in the engine."""


class EngineError(RuntimeError):
    """The engine could not be built or a core broke a rule of its ports; one sentence."""
