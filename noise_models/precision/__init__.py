"""Step-aware precision: which bit width at which step, as data made from recorded noise."""
