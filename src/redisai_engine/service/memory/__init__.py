"""What models take of the memory of the process and how it is given back to the system; tensors that are kept in it."""
