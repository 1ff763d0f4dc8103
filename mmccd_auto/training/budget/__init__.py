"""What a training budget needs to know of a machine, and the schedule that follows."""
