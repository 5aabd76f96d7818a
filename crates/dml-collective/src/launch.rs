use std::net::{SocketAddr, ToSocketAddrs};

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
    /// Where rank 0 can be reached, where the launcher says it.
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

impl Launch {
    /// From this process's environment.
    ///
    /// # Errors
    /// If a variable is not a number, or the rank is not below the size.
    pub fn here() -> Result<Self> {
        Self::read(&|name| std::env::var(name).ok())
    }

    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str| {
            let wrong =
                |text: &str| format!("the environment variable {name} is {text:?}, which is no number");
            variable(name)
                .map(|text| text.parse::<usize>().map_err(|_| CollectiveError::Launch(wrong(&text))))
                .transpose()
        };
        let port = number("MASTER_PORT")?.and_then(|port| u16::try_from(port).ok());
        let master = variable("MASTER_ADDR").zip(port);
        for (launcher, [rank_name, size_name, local]) in VARIABLES {
            let (Some(rank), Some(size)) = (number(rank_name)?, number(size_name)?) else { continue };
            if rank >= size {
                let problem = format!("{rank_name} is {rank}, which is not below {size_name}, {size}");
                return Err(CollectiveError::Launch(problem));
            }
            let local_rank = number(local)?.unwrap_or(rank);
            return Ok(Self { launcher, rank, size, local_rank, master });
        }
        Ok(Self { launcher: Launcher::None, rank: 0, size: 1, local_rank: 0, master })
    }

    /// The address at which rank 0 waits: the master's, one port further, because torchrun itself waits at the master's.
    ///
    /// # Errors
    /// If the launcher has not said it, or it names nothing.
    #[cfg_attr(not(feature = "nccl"), allow(dead_code))]
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let Some((host, port)) = &self.master else {
            return Err(CollectiveError::Launch(
                "MASTER_ADDR and MASTER_PORT must say where rank 0 can be reached, and are not set".into(),
            ));
        };
        let resolved =
            (host.as_str(), port.saturating_add(1)).to_socket_addrs().ok().and_then(|mut all| all.next());
        resolved.ok_or_else(|| CollectiveError::Launch(format!("MASTER_ADDR is {host:?}, which is no host")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        variables: &[(&str, &str)],
        expected: std::result::Result<(Launcher, usize, usize, usize), &str>,
    ) {
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        match (Launch::read(&lookup), expected) {
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
        check(&[("PMI_RANK", "1"), ("PMI_SIZE", "2")], Ok((Launcher::Mpirun, 1, 2, 1)));
        check(&[("RANK", "2"), ("WORLD_SIZE", "2")], Err("RANK is 2, which is not below WORLD_SIZE, 2"));
        check(&[("RANK", "first"), ("WORLD_SIZE", "2")], Err("RANK is \"first\""));
    }

    #[test]
    fn rank_0_waits_where_the_launcher_says() {
        let launch =
            |master| Launch { launcher: Launcher::Torchrun, rank: 0, size: 2, local_rank: 0, master };
        let address = launch(Some(("127.0.0.1".to_string(), 29500))).address().unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:29501");
        assert!(launch(None).address().unwrap_err().to_string().contains("MASTER_ADDR"));
    }
}
