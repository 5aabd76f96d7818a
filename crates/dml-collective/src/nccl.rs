//! Ranks on GPUs.
