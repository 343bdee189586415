"""Where every array lies: lifetimes of arrays, the one arena that they share, and the memory that a network takes."""
