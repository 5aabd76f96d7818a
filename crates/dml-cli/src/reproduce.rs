use crate::Done;
use anyhow::Result;
use clap::Args;
use std::sync::{Arc, atomic::AtomicBool};
#[derive(Debug, Args)]
pub(crate) struct ReproduceArgs {}
pub(crate) fn run(_: &ReproduceArgs, _: &Arc<AtomicBool>) -> Result<Done> {
    Ok(Done::Whole)
}
