//! Processes that meet over the loopback interface, started with the variables of torchrun and of Slurm.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "../examples/meet.rs"]
mod meet;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RANKS: usize = 3;

/// One rank of the tests below, in a process of its own: nothing where it is not started by them.
#[test]
fn one_rank() {
    if std::env::var("DML_MEET").is_ok() {
        meet::main().unwrap();
    }
}

/// This program as rank `rank` of three.
fn start(rank: usize, variables: &[(&str, String)], seconds: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["one_rank", "--exact", "--nocapture"]).arg(seconds.to_string());
    command.env("DML_MEET", "").stdout(Stdio::piped());
    for name in ["OMPI_COMM_WORLD_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.env(variables[0].0, rank.to_string()).spawn().unwrap()
}

/// The port before one that is free.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() - 1
}

fn torchrun() -> Vec<(&'static str, String)> {
    [("RANK", String::new()), ("WORLD_SIZE", RANKS.to_string()), ("LOCAL_RANK", "0".into())]
        .into_iter()
        .chain([("MASTER_ADDR", "127.0.0.1".to_string()), ("MASTER_PORT", port().to_string())])
        .collect()
}

fn rest(child: &mut Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn processes_meet_under_the_variables_of_each_launcher() {
    let check = |launcher: &str, variables: &[(&str, String)]| {
        let mut ranks: Vec<Child> = (0..RANKS).map(|rank| start(rank, variables, 0)).collect();
        for (rank, child) in ranks.iter_mut().enumerate() {
            let text = rest(child);
            let expected = format!("rank {rank} of 3, started by {launcher}, has rank 0's 128 bytes: 7");
            assert!(text.contains(&expected), "{text}");
        }
    };
    check("Torchrun", &torchrun());
    // A step on this machine, whose port follows from the job's number.
    let job = (u64::from(std::process::id()) % 10_000).to_string();
    let slurm = [
        ("SLURM_PROCID", String::new()),
        ("SLURM_STEP_NUM_TASKS", RANKS.to_string()),
        ("SLURM_LOCALID", "0".into()),
        ("SLURM_STEP_NODELIST", "localhost".into()),
        ("SLURM_JOB_ID", job),
    ];
    check("Slurm", &slurm);
}

#[test]
fn a_process_that_dies_or_hangs_is_named_by_the_others() {
    let check = |signal: &str, limit: Duration, expected: &str| {
        let variables = torchrun();
        let mut ranks: Vec<Child> = (0..RANKS).map(|rank| start(rank, &variables, 20)).collect();
        // All have met when each has said so.
        let mut outputs: Vec<_> =
            ranks.iter_mut().map(|rank| BufReader::new(rank.stdout.take().unwrap()).lines()).collect();
        for output in &mut outputs {
            assert!(output.any(|line| line.unwrap().contains("has rank 0's")));
        }
        let began = Instant::now();
        let process = ranks[2].id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &process]).status().unwrap().success());
        for (rank, output) in outputs[..2].iter_mut().enumerate() {
            let text = output.map_while(Result::ok).collect::<Vec<_>>().join("\n");
            assert!(text.contains(&format!("rank {rank}: error: rank 2 {expected}")), "{text}");
        }
        assert!(began.elapsed() < limit, "{:?}", began.elapsed());
        ranks[2].kill().unwrap();
        for rank in &mut ranks {
            rank.wait().unwrap();
        }
    };
    check("KILL", Duration::from_secs(2), "has stopped before the others");
    check("STOP", Duration::from_secs(6), "did not come within 3s and does not answer");
}
