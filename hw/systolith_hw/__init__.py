"""The gateware of Systolith: a parametric systolic accelerator in Amaranth, and its instruction set."""
