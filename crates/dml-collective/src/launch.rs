use std::str::FromStr;

use crate::{CollectiveError, Result};

/// What has started the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Nothing: the process is by itself.
    None,
    /// `mpirun` or `mpiexec` of OpenMPI, or of MPICH and its relatives.
    Mpirun,
    /// `srun`.
    Slurm,
    /// `torchrun`, or anything that sets its variables.
    Torchrun,
}

/// This process's place among those that were started together, as the launcher's environment says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// What has started them.
    pub launcher: Launcher,
    /// This process's number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// This process's number on its machine, which is that of its GPU.
    pub local_rank: usize,
    /// Where rank 0 can be reached, where the launcher says it: MASTER_ADDR and MASTER_PORT, and under Slurm without them the
    /// first host of the step's list and a port that follows from the job's number.
    pub master: Option<(String, u16)>,
}

/// The variables of each launcher: rank, size, and rank on the machine.
const VARIABLES: [(Launcher, [&str; 3]); 4] = [
    (Launcher::Mpirun, ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"]),
    (Launcher::Torchrun, ["RANK", "WORLD_SIZE", "LOCAL_RANK"]),
    // SLURM_NTASKS is also set where nothing was started by srun.
    (Launcher::Slurm, ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"]),
    (Launcher::Mpirun, ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"]),
];

/// The lists of a Slurm step's hosts, of which the first is that of rank 0.
const NODES: [&str; 3] = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"];

impl Launch {
    /// From this process's environment.
    ///
    /// # Errors
    /// If a variable is not what it should be, the rank is not below the size, or there is a rank without a size.
    pub fn here() -> Result<Self> {
        Self::read(&|name| std::env::var(name).ok())
    }

    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        for (launcher, [rank_name, size_name, local]) in VARIABLES {
            let (rank, size) = (variable(rank_name), variable(size_name));
            // A batch script of Slurm's has a rank, and is no step.
            if let (Some(_), None, Launcher::Torchrun) = (&rank, &size, launcher) {
                return Err(wrong(format!("{rank_name} is set, and {size_name} is not")));
            }
            let (Some(rank), Some(size)) = (rank, size) else { continue };
            let (rank, size): (usize, usize) = (number(rank_name, &rank)?, number(size_name, &size)?);
            if rank >= size {
                return Err(wrong(format!("{rank_name} is {rank}, which is not below {size_name}, {size}")));
            }
            let local_rank = variable(local).map(|text| number(local, &text)).transpose()?.unwrap_or(rank);
            let mut host = variable("MASTER_ADDR").filter(|host| !host.is_empty());
            let mut port: Option<u16> =
                variable("MASTER_PORT").map(|text| number("MASTER_PORT", &text)).transpose()?;
            if launcher == Launcher::Slurm {
                host = host.map_or_else(|| slurm_host(variable), |host| Ok(Some(host)))?;
                port = port.map_or_else(|| slurm_port(variable), |port| Ok(Some(port)))?;
            }
            return Ok(Self { launcher, rank, size, local_rank, master: host.zip(port) });
        }
        Ok(Self { launcher: Launcher::None, rank: 0, size: 1, local_rank: 0, master: None })
    }

    /// Host and port at which rank 0 waits: the master's, one port further, because torchrun itself waits at the master's.
    ///
    /// # Errors
    /// If the launcher has not said it, or there is no port further.
    pub(crate) fn meeting(&self) -> Result<(&str, u16)> {
        let Some((host, port)) = &self.master else {
            return Err(wrong(
                "MASTER_ADDR and MASTER_PORT must say where rank 0 can be reached, and are not both set"
                    .into(),
            ));
        };
        let next = port.checked_add(1);
        let next =
            next.ok_or_else(|| wrong(format!("MASTER_PORT is {port}; rank 0 takes the one after it")))?;
        Ok((host, next))
    }
}

fn wrong(problem: String) -> CollectiveError {
    CollectiveError::Launch(problem)
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T> {
    let problem = || {
        let kind = if name == "MASTER_PORT" { "port" } else { "number" };
        wrong(format!("the environment variable {name} is {text:?}, which is no {kind}"))
    };
    text.parse().map_err(|_| problem())
}

/// The host of a step's rank 0.
fn slurm_host(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
    let Some((name, list)) = NODES.iter().find_map(|name| Some((name, variable(name)?))) else {
        return Ok(None);
    };
    let problem = || wrong(format!("the environment variable {name} is {list:?}, which is no list of hosts"));
    first_host(&list).map(Some).ok_or_else(problem)
}

/// The first of a list such as `gpu[03-05,9],login`: gpu03. A name may have several brackets.
fn first_host(list: &str) -> Option<String> {
    let (mut host, mut rest) = (String::new(), list);
    loop {
        let end = rest.find(['[', ']', ',']).unwrap_or(rest.len());
        host += &rest[..end];
        if !rest[end..].starts_with('[') {
            // A name ends with the list, or at a comma.
            return (!host.is_empty() && !rest[end..].starts_with(']')).then_some(host);
        }
        let (numbers, behind) = rest[end + 1..].split_once(']')?;
        let first = numbers.split([',', '-']).next()?;
        if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        host += first;
        rest = behind;
    }
}

/// A port below those that systems give away, which jobs on the same machine hardly share.
fn slurm_port(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<u16>> {
    let Some((name, job)) =
        ["SLURM_JOB_ID", "SLURM_JOBID"].iter().find_map(|name| Some((name, variable(name)?)))
    else {
        return Ok(None);
    };
    Ok(Some(10_000 + (number::<u64>(name, &job)? % 10_000 * 2) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Launch> {
        Launch::read(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    fn check(
        variables: &[(&str, &str)],
        expected: std::result::Result<(Launcher, usize, usize, usize), &str>,
    ) {
        match (read(variables), expected) {
            (Ok(launch), Ok(expected)) => {
                let Launch { launcher, rank, size, local_rank, .. } = launch;
                assert_eq!((launcher, rank, size, local_rank), expected, "{variables:?}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (other, expected) => panic!("{variables:?}: {other:?}, not {expected:?}"),
        }
    }

    #[test]
    fn launchers_are_known_by_their_variables() {
        check(&[], Ok((Launcher::None, 0, 1, 0)));
        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "5"),
            ("OMPI_COMM_WORLD_SIZE", "8"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            // mpirun inside of a Slurm job.
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_NUM_TASKS", "2"),
        ];
        check(&mpirun, Ok((Launcher::Mpirun, 5, 8, 1)));
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_LOCALID", "1")];
        check(&slurm, Ok((Launcher::Slurm, 3, 4, 1)));
        // A batch script that starts the command without srun.
        check(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")], Ok((Launcher::None, 0, 1, 0)));
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")];
        check(&torchrun, Ok((Launcher::Torchrun, 1, 2, 1)));
        // torchrun, which srun has started once on each machine.
        check(&[&torchrun[..], &slurm].concat(), Ok((Launcher::Torchrun, 1, 2, 1)));
        check(&[("PMI_RANK", "1"), ("PMI_SIZE", "2")], Ok((Launcher::Mpirun, 1, 2, 1)));
        // Who is alone meets nobody.
        check(&[("MASTER_PORT", "many")], Ok((Launcher::None, 0, 1, 0)));
    }

    #[test]
    fn variables_that_cannot_be_are_named() {
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2")];
        let with = |more: (&'static str, &'static str)| [&torchrun[..], &[more]].concat();
        check(&[("RANK", "2"), ("WORLD_SIZE", "2")], Err("RANK is 2, which is not below WORLD_SIZE, 2"));
        check(&[("RANK", "0"), ("WORLD_SIZE", "0")], Err("RANK is 0, which is not below WORLD_SIZE, 0"));
        check(&[("RANK", "0")], Err("RANK is set, and WORLD_SIZE is not"));
        for text in ["first", "", "-1", "1.0", " 1"] {
            check(&[("RANK", text), ("WORLD_SIZE", "2")], Err("environment variable RANK is"));
            check(&[("RANK", "0"), ("WORLD_SIZE", text)], Err("environment variable WORLD_SIZE is"));
            check(&[("SLURM_PROCID", text), ("SLURM_STEP_NUM_TASKS", "2")], Err("SLURM_PROCID is"));
            check(&[("OMPI_COMM_WORLD_RANK", text), ("OMPI_COMM_WORLD_SIZE", "2")], Err("WORLD_RANK is"));
        }
        check(&with(("LOCAL_RANK", "one")), Err("LOCAL_RANK is \"one\", which is no number"));
        check(&with(("MASTER_PORT", "65536")), Err("MASTER_PORT is \"65536\", which is no port"));
        check(&with(("MASTER_PORT", "")), Err("MASTER_PORT is \"\", which is no port"));
        let slurm = [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_JOB_ID", "7")];
        let nodes = |list| [&slurm[..], &[("SLURM_STEP_NODELIST", list)]].concat();
        for list in ["", "gpu[", "gpu[]", "gpu[a-b]", "gpu]", ",gpu"] {
            check(&nodes(list), Err("SLURM_STEP_NODELIST is"));
        }
        let job = [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_JOB_ID", "a")];
        check(&job, Err("SLURM_JOB_ID is \"a\""));
    }

    #[test]
    fn rank_0_waits_where_the_launcher_says() {
        let check = |variables: &[(&str, &str)], expected: std::result::Result<(&str, u16), &str>| match (
            read(variables).unwrap().meeting(),
            expected,
        ) {
            (Ok(meeting), Ok(expected)) => assert_eq!(meeting, expected, "{variables:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (other, expected) => panic!("{variables:?}: {other:?}, not {expected:?}"),
        };
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "node1")];
        let at = |port| [&torchrun[..], &[("MASTER_PORT", port)]].concat();
        check(&at("29500"), Ok(("node1", 29501)));
        check(&at("65535"), Err("MASTER_PORT is 65535"));
        check(&torchrun, Err("MASTER_ADDR and MASTER_PORT"));
        let slurm = [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_JOB_ID", "123456")];
        check(&slurm, Err("MASTER_ADDR and MASTER_PORT"));
        let on = |list| [&slurm[..], &[("SLURM_NODELIST", list)]].concat();
        for (list, host) in [
            ("node7", "node7"),
            ("node7,node8", "node7"),
            ("gpu[03-05,9],login", "gpu03"),
            ("gpu[9,03-05]", "gpu9"),
            ("rack[2-3]node[001-008]-ib", "rack2node001-ib"),
        ] {
            check(&on(list), Ok((host, 16_913)));
        }
        // What is said goes before what follows.
        let said = [&on("node7")[..], &[("MASTER_ADDR", "node9"), ("MASTER_PORT", "29500")]].concat();
        check(&said, Ok(("node9", 29501)));
    }
}
