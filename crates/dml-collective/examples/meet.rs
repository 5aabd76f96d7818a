//! Whether the processes of a launch find each other, as those that train with NCCL must before it connects them:
//! `torchrun --no-python --nproc-per-node 3 target/debug/examples/meet`, or `srun`. Takes no GPU. With a number they stay together
//! for so many seconds, and tell of one that is killed or stopped meanwhile.

// It speaks to the person who runs it.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use dml_collective::{Launch, Rendezvous, Result};

/// How long a rank may be silent.
const LIMIT: Duration = Duration::from_secs(3);

pub(crate) fn main() -> Result<()> {
    let launch = Launch::here()?;
    let (rank, size) = (launch.rank, launch.size);
    // What rank 0 brings; NCCL's key is as long.
    let mut bytes = [0; 128];
    if rank == 0 {
        bytes.fill(7);
    }
    let met = Rendezvous::meet(&launch, &mut bytes, LIMIT, move |error| {
        println!("rank {rank}: error: {error}");
        std::process::exit(1);
    })?;
    println!(
        "rank {rank} of {size}, started by {:?}, has rank 0's {} bytes: {}",
        launch.launcher,
        bytes.len(),
        bytes[127]
    );
    let seconds = std::env::args().skip(1).find_map(|text| text.parse().ok());
    std::thread::sleep(Duration::from_secs(seconds.unwrap_or(0)));
    drop(met);
    Ok(())
}
