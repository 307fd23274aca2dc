"""Other modules or weights, the same float function: split shortcuts, Hadamard rotation, low-rank branches."""
