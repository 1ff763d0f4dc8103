"""From files to series: grouped, laid out in space, and told apart by sequence."""
