//! The losses from outside: golden values, gradients, properties, extreme inputs, errors.
#![allow(clippy::unwrap_used)]

mod common;
mod errors;
mod golden;
mod gradients;
mod properties;
mod safety;
