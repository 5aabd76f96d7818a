//! The crate from outside: downloads, archives, videos, and whole datasets.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod archives;
mod common;
mod datasets;
mod download;
mod videos;
