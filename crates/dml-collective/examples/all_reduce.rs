//! How long a mean over all ranks takes, and how much passes the loopback interface meanwhile:
//! `mpirun -n 2 all_reduce 312 412`, in MB (10⁶ bytes); with `bf16` first, half as much travels.

// It speaks to the person who runs it.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use candle_core::Device;
use dml_collective::{Launch, Result, Wire, open};

/// A mean of each size is taken so often after one that warms up.
const TIMES: usize = 5;
/// As the trainer cuts gradients: 4 Mi numbers a message.
const BUCKET: usize = 4 << 20;

fn main() -> Result<()> {
    let ranks = open(&Launch::here()?, &Device::Cpu, Duration::from_secs(60), |_| {})?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wire = if arguments.iter().any(|text| text == "bf16") { Wire::Bf16 } else { Wire::F32 };
    for size in arguments.iter().filter_map(|text| text.parse::<usize>().ok()) {
        let mut values = vec![ranks.rank() as f32; size * 1_000_000 / 4];
        let (mut seconds, mut passed) = (vec![], 0);
        for time in 0..=TIMES {
            ranks.barrier()?;
            let (began, before) = (Instant::now(), loopback());
            for bucket in values.chunks_mut(BUCKET) {
                ranks.all_reduce_mean(bucket, wire)?;
            }
            ranks.barrier()?;
            if time > 0 {
                seconds.push(began.elapsed().as_secs_f64());
                passed += loopback() - before;
            }
        }
        seconds.sort_by(f64::total_cmp);
        if ranks.rank() == 0 {
            println!(
                "{} ranks, {size} MB, {wire:?}: {:.3} s ({:.3}-{:.3}); {:.0} MB a time over the loopback interface",
                ranks.size(),
                seconds[TIMES / 2],
                seconds[0],
                seconds[TIMES - 1],
                passed as f64 / TIMES as f64 / 1e6
            );
        }
    }
    Ok(())
}

/// Bytes that the loopback interface has received since the system began; 0 where the system does not tell.
fn loopback() -> u64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
