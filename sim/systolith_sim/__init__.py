"""The simulators of Systolith: compiler, RTL engine, cycle model, costs of other machines."""

__version__ = "0.1.0"
