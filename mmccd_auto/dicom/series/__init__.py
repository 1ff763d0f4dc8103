"""From files to series: grouped, laid out in space, and distinguished by sequence."""
