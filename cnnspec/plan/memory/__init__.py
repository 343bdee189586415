"""Where every array lies: lives of arrays, one arena that they share, and what all of it comes to."""
