"""Work in other processes and threads: who does it, what goes wrong, what it costs in memory."""
