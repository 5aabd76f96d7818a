//! Which share of a step each part takes: the time of its three phases, and samples of the stacks within them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::child::Program;

/// Parts of a step in the order of the table: the first whose word occurs in a frame takes the sample, frames from the
/// innermost outwards. A convolution counts by the phase in which it runs, unless its weight gradient is named.
const PARTS: [(&str, &str); 10] = [
    ("::linear::", "linear"),
    ("::pool::", "pooling"),
    ("::lrn::", "response normalisation"),
    ("::dropout::", "dropout"),
    ("::adam::", "Adam"),
    ("weight_gradient", CONVOLUTION_WEIGHTS),
    ("::conv::", CONVOLUTION),
    ("::winograd::", CONVOLUTION),
    ("::direct::", CONVOLUTION),
    ("::depthwise::", CONVOLUTION),
];
const CONVOLUTION: &str = "convolutions";
const CONVOLUTION_WEIGHTS: &str = "convolutions, weight gradient";
const REST: &str = "rest";

const PHASES: [&str; 3] = ["forward", "backward", "Adam"];
const SHOWN_FUNCTIONS: usize = 15;

/// Runs the step program under `perf record`, and prints phases, parts and functions.
pub(super) fn run(program: &mut Command, runs: u32) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("dml-profile-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let data = folder.join("perf.data");
    let mut perf = Command::new("perf");
    // The clock is the one in which the program says when its phases began.
    perf.args(["record", "--quiet", "--event", "cpu-clock", "--freq", "199", "--clockid", "CLOCK_REALTIME"]);
    perf.args(["--call-graph", "dwarf,16384", "--output"]).arg(&data).arg("--");
    perf.arg(program.get_program()).args(program.get_args());
    perf.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let advice = "--profile needs Linux's perf (Debian's package is linux-perf)";
    let mut recorded = Program::start("perf record", &mut perf).context(advice)?;
    let mut steps = Vec::new();
    for _ in 0..runs {
        let answer = recorded.ask("")?;
        for marks in answer["marks"].as_array().into_iter().flatten() {
            let marks: Vec<f64> = marks.as_array().into_iter().flatten().filter_map(|t| t.as_f64()).collect();
            steps.push(<[f64; 4]>::try_from(marks).ok().context("a step without four marks")?);
        }
    }
    drop(recorded);
    let mut script = Command::new("perf");
    script.args(["script", "--fields", "tid,time,ip,sym", "--input"]).arg(&data);
    let output = script.stderr(Stdio::null()).output().context(advice)?;
    std::fs::remove_dir_all(&folder)?;
    let table = Table::of(&String::from_utf8_lossy(&output.stdout), &steps);
    if table.samples == 0 {
        bail!("perf took no sample within a step; {advice}");
    }
    print!("{}", table.show(&steps));
    Ok(())
}

/// Samples by phase and part, and by the innermost function.
#[derive(Default)]
struct Table {
    samples: usize,
    parts: BTreeMap<(String, &'static str), usize>,
    functions: BTreeMap<String, usize>,
}

impl Table {
    /// Counts the stacks of `perf script` that lie within a step.
    fn of(script: &str, steps: &[[f64; 4]]) -> Self {
        let mut table = Self::default();
        for stack in script.split("\n\n") {
            let mut lines = stack.lines().filter(|line| !line.is_empty());
            let Some(phase) = lines.next().and_then(time_of).and_then(|time| phase_at(time, steps)) else {
                continue;
            };
            let frames: Vec<&str> =
                lines.filter_map(|line| Some(line.trim().split_once(' ')?.1.trim())).collect();
            table.samples += 1;
            *table.parts.entry(part_of(&frames, phase)).or_default() += 1;
            let innermost = frames.first().map_or("?", |frame| without_hash(frame));
            *table.functions.entry(innermost.to_owned()).or_default() += 1;
        }
        table
    }

    fn show(&self, steps: &[[f64; 4]]) -> String {
        let total: f64 = steps.iter().map(|marks| marks[3] - marks[0]).sum();
        let mut out = String::from("profile: ");
        for (i, phase) in PHASES.iter().enumerate() {
            let seconds: f64 = steps.iter().map(|marks| marks[i + 1] - marks[i]).sum();
            out += &format!("{phase} {:.1} %, ", 100.0 * seconds / total);
        }
        out += &format!("of the time of {} steps\n", steps.len());
        out += &format!("processor time by part ({} samples of all threads):\n", self.samples);
        let parts =
            self.parts.iter().map(|((part, phase), count)| (format!("{part} ({phase})"), *count)).collect();
        self.rows(parts, usize::MAX, &mut out);
        out += "by innermost function:\n";
        self.rows(self.functions.clone().into_iter().collect(), SHOWN_FUNCTIONS, &mut out);
        out
    }

    fn rows(&self, mut rows: Vec<(String, usize)>, most: usize, out: &mut String) {
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (name, count) in rows.iter().take(most) {
            *out += &format!("  {:5.1} %  {name}\n", 100.0 * *count as f64 / self.samples as f64);
        }
    }
}

/// The time in the first line of a sample, `tid seconds:`.
fn time_of(line: &str) -> Option<f64> {
    line.split_whitespace().nth(1)?.trim_end_matches(':').parse().ok()
}

fn phase_at(time: f64, steps: &[[f64; 4]]) -> Option<&'static str> {
    let marks = steps.iter().find(|marks| (marks[0]..marks[3]).contains(&time))?;
    PHASES.into_iter().zip(&marks[1..]).find(|(_, end)| time < **end).map(|(phase, _)| phase)
}

fn part_of(frames: &[&str], phase: &'static str) -> (String, &'static str) {
    let within = frames.iter().find_map(|frame| PARTS.iter().find(|(word, _)| frame.contains(word)));
    let part = match within.map_or(REST, |(_, part)| part) {
        // A microkernel that several directions share is told apart by its callers.
        CONVOLUTION if frames.iter().any(|frame| frame.contains("weight_gradient")) => CONVOLUTION_WEIGHTS,
        CONVOLUTION if phase == "backward" => "convolutions, data gradient",
        part => part,
    };
    (part.to_owned(), phase)
}

/// A symbol without the hash that Rust's older mangling appends.
fn without_hash(symbol: &str) -> &str {
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => name,
        _ => symbol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
  7 1.500000: 
\t    55d0 dml_ops::kernel::product::run::h0123456789abcdef
\t    55d1 dml_ops::kernel::conv::forward::{{closure}}
\t    55d2 rayon_core::join

  8 2.500000: 
\t    55d0 dml_ops::kernel::product::run::h0123456789abcdef
\t    55d1 dml_ops::kernel::conv::weight_gradient

  8 2.600000: 
\t    55d0 dml_ops::kernel::winograd::gather
\t    55d1 dml_ops::kernel::winograd::convolve

  8 3.100000: 
\t    55d0 candle_core::cpu::utils

  8 9.000000: 
\t    55d0 after_the_last_step
";

    #[test]
    fn samples_fall_into_phases_and_parts() {
        let steps = [[1.0, 2.0, 3.0, 4.0]];
        let table = Table::of(SCRIPT, &steps);
        assert_eq!(table.samples, 4);
        let parts: Vec<(&str, &str)> =
            table.parts.keys().map(|(part, phase)| (part.as_str(), *phase)).collect();
        assert_eq!(
            parts,
            [
                ("convolutions", "forward"),
                ("convolutions, data gradient", "backward"),
                ("convolutions, weight gradient", "backward"),
                ("rest", "Adam"),
            ]
        );
        assert_eq!(table.functions["dml_ops::kernel::product::run"], 2);
        let shown = table.show(&steps);
        assert!(shown.starts_with("profile: forward 33.3 %, backward 33.3 %, Adam 33.3 %"), "{shown}");
        assert!(shown.contains("50.0 %  dml_ops::kernel::product::run\n"), "{shown}");
    }
}
