"""Plans that fit a training budget on the machine that is here."""
