"""Three strategies to read and to run: each file is a program, and a start for one of your own."""
