//! Decides which node gets work and whether it gets in at all. Pure: time, randomness and state are arguments.
