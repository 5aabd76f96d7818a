//! What a run was computed with: `environment.json`.

use candle_core::Device;
use serde::Serialize;

/// The program, the machine and the time.
#[derive(Serialize)]
pub(crate) struct Environment {
    /// Version of this program.
    version: &'static str,
    /// What it was built with.
    features: Vec<&'static str>,
    /// `cpu`, `cuda:0`, …
    device: String,
    /// Threads of the pool.
    threads: usize,
    /// Name of the processor, where the system tells.
    processor: Option<String>,
    /// Operating system and architecture.
    system: String,
    /// Seconds since 1970 at the start of the run.
    started: u64,
    /// The command.
    command: Vec<String>,
}

impl Environment {
    pub(crate) fn here(device: &Device) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            features: features(),
            device: match device.location() {
                candle_core::DeviceLocation::Cpu => "cpu".into(),
                candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
                candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
            },
            threads: rayon::current_num_threads(),
            processor: processor(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started: since.unwrap_or_default().as_secs(),
            command: std::env::args().collect(),
        }
    }
}

/// What this program was built with.
pub(crate) fn features() -> Vec<&'static str> {
    let known = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("mpi", cfg!(feature = "mpi")),
        ("nccl", cfg!(feature = "nccl")),
    ];
    known.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

/// Name of the processor, where the system tells.
pub(crate) fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = info.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(name.split_once(':')?.1.trim().to_string())
}
