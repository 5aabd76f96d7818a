//! Ranks that MPI has started, through rsmpi.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use crate::{Collective, CollectiveError, Launch, Result, mean_in_order};

/// How long a wait keeps asking before it leaves the core to others between two questions.
const EAGER: Duration = Duration::from_millis(1);
/// How long it leaves it then: MPI moves data only while it is asked.
const PAUSE: Duration = Duration::from_micros(50);

pub(crate) struct Mpi {
    // Held for as long as MPI may be called; ends MPI when dropped.
    _universe: Universe,
    world: Mutex<SimpleCommunicator>,
    rank: usize,
    size: usize,
}

// SAFETY: MPI was started with a level at which any thread may call it while no other does, and the lock around `world`
// sees to that.
unsafe impl Send for Mpi {}
// SAFETY: as above.
unsafe impl Sync for Mpi {}

impl Mpi {
    pub(crate) fn start(launch: &Launch) -> Result<Self> {
        let launched = |problem: String| CollectiveError::Launch(problem);
        let (universe, level) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| launched("MPI is running in this process already".into()))?;
        if level < Threading::Serialized {
            let problem = format!("this MPI gives threads the level {level:?}; dml needs Serialized or more");
            return Err(launched(problem));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if size != launch.size {
            return Err(launched(format!(
                "{} processes were started, and MPI sees {size}: start them with the mpirun of the MPI that dml was \
                 built with (for Slurm, `srun --mpi=pmix`)",
                launch.size
            )));
        }
        Ok(Self { _universe: universe, world: Mutex::new(world), rank, size })
    }

    fn world(&self) -> MutexGuard<'_, SimpleCommunicator> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi({} of {})", self.rank, self.size)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // Ending MPI waits for all ranks, and those that do not panic wait for this one.
        if std::thread::panicking() {
            self.abort(101);
        }
    }
}

/// Waits without keeping a core from those who compute.
fn settle<'a, D: ?Sized, S: Scope<'a>>(mut request: Request<'a, D, S>) {
    let began = Instant::now();
    loop {
        match request.test() {
            Ok(_) => return,
            Err(again) => request = again,
        }
        match began.elapsed() < EAGER {
            true => std::thread::yield_now(),
            false => std::thread::sleep(PAUSE),
        }
    }
}

/// MPI counts in i32.
fn count(length: usize) -> Result<i32> {
    let problem = || CollectiveError::Message(format!("{length} bytes at once are more than MPI can count"));
    i32::try_from(length).map_err(|_| problem())
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    /// Each rank sums a piece of everybody's values, in the order of the ranks, and all get all pieces: as much data as
    /// a ring moves, and bits that do not depend on which algorithm MPI chooses.
    fn all_reduce_mean(&self, values: &mut [f32]) -> Result<()> {
        let piece = values.len().div_ceil(self.size);
        count(piece * self.size)?;
        let mut all = vec![0.0; piece * self.size];
        let mut padded = values.to_vec();
        padded.resize(all.len(), 0.0);
        let world = self.world();
        scope(|scope| settle(world.immediate_all_to_all_into(scope, &padded[..], &mut all[..])));
        let mut mean = vec![0.0; piece];
        mean_in_order(all.chunks_exact(piece.max(1)), &mut mean);
        scope(|scope| settle(world.immediate_all_gather_into(scope, &mean[..], &mut all[..])));
        values.copy_from_slice(&all[..values.len()]);
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let world = self.world();
        let root = world.process_at_rank(0);
        let mut length = [count(bytes.len())?];
        scope(|scope| settle(root.immediate_broadcast_into(scope, &mut length[..])));
        bytes.resize(length[0] as usize, 0);
        scope(|scope| settle(root.immediate_broadcast_into(scope, &mut bytes[..])));
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let world = self.world();
        let (own, mut lengths) = ([count(bytes.len())?], vec![0i32; self.size]);
        scope(|scope| settle(world.immediate_all_gather_into(scope, &own[..], &mut lengths[..])));
        let total: usize = lengths.iter().map(|&length| length as usize).sum();
        count(total)?;
        let mut places = Vec::with_capacity(self.size);
        let mut place = 0;
        for length in &lengths {
            places.push(place);
            place += length;
        }
        let mut all = vec![0u8; total];
        {
            let mut parts = PartitionMut::new(&mut all[..], &lengths[..], &places[..]);
            scope(|scope| settle(world.immediate_all_gather_varcount_into(scope, bytes, &mut parts)));
        }
        let of = |(&length, &place): (&i32, &i32)| all[place as usize..][..length as usize].to_vec();
        Ok(lengths.iter().zip(&places).map(of).collect())
    }

    fn barrier(&self) -> Result<()> {
        settle(self.world().immediate_barrier());
        Ok(())
    }

    fn abort(&self, code: i32) -> ! {
        self.world().abort(code)
    }
}
